/* SPDX-License-Identifier: Apache-2.0 */
/* sightings.h: when agents were heard last, from their published snapshots into the registry: what an operator asks of
 * a source that burnt down is still known after the server was started again. Once a minute, and when the server ends;
 * a server that is killed knows it to the minute. */
#ifndef HF_SERVER_SIGHTINGS_H
#define HF_SERVER_SIGHTINGS_H

#include "server/registry.h"
#include "server/status.h"

/* Blocks, as the registry's calls do. 0, -ENOMEM, or as registry_put_sightings(). */
int sightings_keep(struct status_table *t, struct registry *r, struct hf_error *err);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* fill.h: a volume's first copy: one monotone scan from the server's frontier to the end. */
#ifndef HF_AGENT_FILL_H
#define HF_AGENT_FILL_H

#include "agent/walk.h"

/* Send v from v->frontier_blocks on, and wait until it is durable; then frontier_blocks is the end.
 * Zeros and holes cost no payload. 0; an errno with c->failed set if the disk cannot be read;
 * -HF_ESTREAM, -ECANCELED as the link's functions. */
int fill_volume(struct copier *c, struct volume *v);

#endif

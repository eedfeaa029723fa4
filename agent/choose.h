/* SPDX-License-Identifier: Apache-2.0 */
/* choose.h: which disks a machine replicates, decided once, at enrolment. */
#ifndef HF_AGENT_CHOOSE_H
#define HF_AGENT_CHOOSE_H

#include "agent/options.h"
#include "agent/state.h"

/* Fill st->volumes: from --volume; else those it has (enrolling again); else from the terminal,
 * where Enter takes the default; else the default if --yes. 0; -EINVAL when nobody said; -errno. */
int choose_volumes(const struct options *o, struct state *st, struct hf_error *err);

/* The command list-disks. Returns the program's exit code. */
int list_disks_run(const struct options *o);

#endif

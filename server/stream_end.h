/* SPDX-License-Identifier: Apache-2.0 */
/* stream_end.h: how far a source's newest stream came, as its agent was told and as the staging area has it. Pure. */
#ifndef HF_SERVER_STREAM_END_H
#define HF_SERVER_STREAM_END_H

#include <stdbool.h>

#include "proto/message.h"

struct stream_end {
	uint64_t stream_id; /* 0: there was none */
	uint64_t sequence;  /* of its last frame that is durable */
};

/* Was something acknowledged to the agent that is not here any more? earlier: the agent's streams before told. */
bool stream_end_went_back(
    const struct stream_end *told, const struct earlier_streams *earlier, const struct stream_end *ours);

#endif

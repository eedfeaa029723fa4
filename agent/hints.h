/* SPDX-License-Identifier: Apache-2.0 */
/* hints.h: what a person needs to recognise this machine. Never identity. */
#ifndef HF_AGENT_HINTS_H
#define HF_AGENT_HINTS_H

#include "proto/message.h"

/* Gather what can be found; what cannot stays empty. Reads /etc, /proc and /sys; does not fail. */
void hints_gather(struct message_hints *ret_hints);

#endif

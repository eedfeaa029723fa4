/* SPDX-License-Identifier: Apache-2.0 */
/* say.h: words to who typed the command; what a running agent has to tell goes to the log. */
#ifndef HF_AGENT_SAY_H
#define HF_AGENT_SAY_H

/* "holdfast-agent: ..." on stderr, a line, and broken where a terminal ends. */
void say(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif

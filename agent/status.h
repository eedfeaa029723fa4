/* SPDX-License-Identifier: Apache-2.0 */
/* status.h: what a running agent says of itself on <state>/agent.sock: connect, read one JSON
 * object to the end. */
#ifndef HF_AGENT_STATUS_H
#define HF_AGENT_STATUS_H

#include "agent/options.h"
#include "proto/common/error.h"

struct status_server;

/* Makes the text to send: malloced JSON, NULL if there is no memory. Called on the server's thread.
 */
typedef char *status_text_cb(void *arg);

/* Listen in the state directory; a thread answers until status_server_stop(). 0 or -errno. */
int status_server_start(const char *state_directory, status_text_cb *cb, void *arg, struct status_server **ret_server,
    struct hf_error *err);

/* Stop, remove the socket, free. NULL is allowed. */
void status_server_stop(struct status_server *s);

/* The command status. Returns the program's exit code. */
int status_run(const struct options *o);

#endif

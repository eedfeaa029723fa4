/* SPDX-License-Identifier: Apache-2.0 */
/* api.h: the control sockets: HTTP/1.1 + JSON on <runtime_dir>/monitor.sock (GET only) and
 * admin.sock (everything). docs/man/holdfast-api.7.scd is the contract with clients. Everything
 * runs on the main thread's loop; what blocks is done by one helper thread. */
#ifndef HF_SERVER_API_H
#define HF_SERVER_API_H

#include "proto/common/error.h"
#include "server/config.h"

struct server;

/* Make runtime_dir and listen on both sockets. Reads server_base(), server_registry() and
 * server_status(), which must outlive api_stop(). The process must ignore SIGPIPE. Blocking but
 * short. One at a time. -EADDRINUSE,
 * -errno. */
int api_start(struct server *sv, const struct config *config, struct hf_error *err);

/* Cut every connection and remove the sockets. Commands under way may still answer: nobody listens.
 * Does nothing if not started. */
void api_stop(struct server *sv);

#endif

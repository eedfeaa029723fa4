/* SPDX-License-Identifier: Apache-2.0 */
/* client.h: HTTP over the control sockets. Every function says on stderr what went wrong, why, and what to do next, and
 * returns the exit code: EXIT_DONE, or else. Calls block, at most for --timeout (streams: until they end). */
#ifndef HF_CTL_CLIENT_H
#define HF_CTL_CLIENT_H

#include <jansson.h>

#include "server/ctl/ctl.h"

int client_create(const struct ctl *ctl, struct client **ret_client);
void client_destroy(struct client *c); /* NULL allowed */

/* At least so long may the next requests take. */
void client_extend_timeout(struct client *c, int seconds);

/* GET path from the monitor socket. Gives *ret_json. format is as for printf; "%s" arguments must have been through
 * client_escape() unless they are ids. */
int client_get(struct client *c, json_t **ret_json, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* A change, on the admin socket. Takes body (NULL: none). Gives *ret_json. */
int client_change(struct client *c, const char *method, json_t *body, json_t **ret_json, const char *format, ...)
    __attribute__((format(printf, 5, 6)));

/* All items of a list, over its pages (path already holds a '?'). Gives a JSON array. Waits while a source's data is
 * being opened. */
int client_list(struct client *c, json_t **ret_items, const char *path);

/* The same, of one that only the admin socket tells. */
int client_list_confided(struct client *c, json_t **ret_items, const char *path);

/* Percent-encode. Gives. */
char *client_escape(struct client *c, const char *text);

struct client_stream {
	bool admin;
	/* Once, before the first bytes: header(name) gives its value or NULL. Not 0 ends the stream with that code. */
	int (*begin)(void *arg, struct client *c);
	int (*bytes)(void *arg, const unsigned char *bytes, size_t len);
	void *arg;
};

/* A long answer, as it comes. The code of a callback that ended it, or the client's own. EXIT_INTERRUPTED after a
 * signal. */
int client_stream(struct client *c, const struct client_stream *s, const char *path);
const char *client_header(struct client *c, const char *name); /* from begin() on; NULL */

#endif

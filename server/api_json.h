/* SPDX-License-Identifier: Apache-2.0 */
/* api_json.h: what the server knows, in the API's words: camelCase, the DRS API's field names where
 * it has one, ours in the same manner. Times are RFC 3339 UTC with milliseconds, or null for never;
 * durations in seconds unless the name says otherwise (lagDuration and elapsedReplicationDuration
 * are ISO 8601); LSNs are strings, because jq and JavaScript lose integers above 2^53.
 *
 * Pure functions. Each gives a new reference, or NULL when out of memory. now_ns is CLOCK_REALTIME:
 * lag grows with it. */
#ifndef HF_SERVER_API_JSON_H
#define HF_SERVER_API_JSON_H

#include <jansson.h>

#include "server/audit.h"
#include "server/fleet.h"
#include "server/server_facts.h"
#include "server/status.h"

json_t *api_json_version(const struct server_facts *facts);
json_t *api_json_source(const struct source_status *s, int64_t now_ns);
json_t *api_json_volume(const struct source_status *s, const struct volume_status *v);

json_t *api_json_fleet(const struct fleet *fleet);

/* status: of the same source, to name the volumes; NULL leaves them as numbers. */
json_t *api_json_pit(const struct id *source, const struct pit *pit, const struct source_status *status);

/* Never the secret: token is given once, by whoever made it. */
json_t *api_json_token(const struct registry_token *token, int64_t now_ns);
/* replaced: the source has a newer one. The other one is of the server itself. */
json_t *api_json_certificate(const struct registry_certificate *c, bool replaced, int64_t now_ns);
json_t *api_json_own_certificate(enum pki_role role, const struct pki_certificate *c, int64_t now_ns);
json_t *api_json_event(const struct registry_event *event);
/* An event that has no number, because it is not kept: see news.h. */
json_t *api_json_point_taken(const struct id *source, const struct pit *pit, int64_t now_ns);
/* Takes json; gives a line with '\n' at its end. NULL if there is no memory. */
char *api_json_line(json_t *json);
json_t *api_json_audit(const struct registry_audit *row);
json_t *api_json_audit_report(const struct audit_report *report);

/* {status: "ok"|"failing", reasons: [{code, text, sourceServerID}]}. What is wrong with the server itself; a source
 * that lags is not. The reasons: the server's own (a new array), then those that a source knows, added for each; health
 * takes them, and *ret_healthy says which it is. */
json_t *api_json_server_reasons(const struct server_facts *facts);
void api_json_add_source_reasons(json_t *reasons, const struct source_status *s);
json_t *api_json_health(json_t *reasons, bool *ret_healthy);

/* application/problem+json. code is a negative errno or hf_status; hint: what to do next, NULL or
 * "" = none. */
json_t *api_json_problem(int http_status, int code, const char *detail, const char *hint);

/* The HTTP status that says the same as a negative errno or hf_status. */
int api_http_status(int code);

/* Text that a person may be shown, of one line: as text_set() has it. */
json_t *api_json_text(const char *text);

/* Keys of the configuration: ["server.listen", ...]. */
json_t *api_json_keys(config_mask mask);

/* RFC 3339, or null for 0. */
json_t *api_json_time(int64_t ns);

#endif

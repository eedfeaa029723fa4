/* SPDX-License-Identifier: Apache-2.0 */
#include "server/api.h"

#include <assert.h>
#include <errno.h>
#include <grp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proto/common/log.h"
#include "proto/common/status.h"
#include "proto/common/units.h"
#include "server/api_call.h"

enum {
	CONNECTIONS_MAX = 64, /* of one socket: a script that leaks them shuts out no person for long */
	REQUEST_TIMEOUT_MS = 30000,
	STALL_TIMEOUT_MS = 120000, /* an export's reader may be busy with its own disk for a while */
};

static const struct route routes[] = {
    {HTTP_GET, "/v1/version", NULL, ROUTE_TELLS, NULL, get_version, "the server: version, addresses, staging area"},
    {HTTP_GET, "/v1/health", NULL, ROUTE_SHOWS, NULL, get_health, "200, or 503 with reasons"},
    {HTTP_GET, "/v1/status", NULL, ROUTE_SHOWS, NULL, get_status, "all sources in numbers: states, Ready, worst lag"},
    {HTTP_GET, "/v1/source-servers", NULL, ROUTE_SHOWS, NULL, get_sources, "all sources with state, lag, Ready"},
    {HTTP_GET, "/v1/source-servers/*", NULL, ROUTE_SHOWS, prepare_source, get_source, "one source"},
    {HTTP_GET, "/v1/source-servers/*/pit-plan", NULL, ROUTE_TELLS, prepare_plan, get_plan,
	"what another policy would keep"},
    {HTTP_GET, "/v1/volumes", NULL, ROUTE_SHOWS, prepare_source_filter, get_volumes, "volumes, of one source or all"},
    {HTTP_GET, "/v1/points-in-time", NULL, ROUTE_TELLS, prepare_pits, get_pits, "points in time of a source"},
    {HTTP_GET, "/v1/points-in-time/*/volumes/*/data", "export", ROUTE_GOES_ON, prepare_export, get_export,
	"a volume at a point in time"},
    {HTTP_GET, "/v1/events", NULL, ROUTE_TELLS, prepare_events, get_events, "events as NDJSON; follow=1 goes on"},
    {HTTP_GET, "/v1/tokens", NULL, ROUTE_TELLS, NULL, get_tokens, "enrolment tokens, never their secrets"},
    {HTTP_GET, "/v1/settings", NULL, ROUTE_TELLS, NULL, get_settings, "what new sources begin with"},
    {HTTP_GET, "/v1/ca", NULL, ROUTE_TELLS, NULL, get_ca, "the CA certificate and its fingerprint"},
    {HTTP_GET, "/v1/certificates", NULL, ROUTE_TELLS, NULL, get_certificates, "certificates, and when they expire"},
    {HTTP_GET, "/v1/identity", "identity.backup", ROUTE_GOES_ON, NULL, get_identity,
	"what the server is to its agents, keys included"},
    {HTTP_GET, "/v1/audit", NULL, ROUTE_CONFIDES, prepare_audit, get_audit, "who asked for what, and what came of it"},
    {HTTP_GET, "/v1/audit/check", NULL, ROUTE_CONFIDES, NULL, get_audit_check, "is all of it as it was written?"},
    {HTTP_GET, "/metrics", NULL, ROUTE_SHOWS, NULL, get_metrics, "Prometheus text"},
    {HTTP_POST, "/v1/tokens", "token.create", ROUTE_CHANGES, prepare_token_create, post_token,
	"make an enrolment token"},
    {HTTP_DELETE, "/v1/tokens/*", "token.revoke", ROUTE_CHANGES, prepare_token, delete_token, "revoke a token"},
    {HTTP_POST, "/v1/points-in-time", "pit.create", ROUTE_CHANGES, prepare_pit_create, post_pit,
	"a point by hand, now"},
    {HTTP_POST, "/v1/points-in-time/*/hold", "pit.hold", ROUTE_CHANGES, prepare_pit_hold, change_pit,
	"never expire this point"},
    {HTTP_POST, "/v1/points-in-time/*/release", "pit.release", ROUTE_GOES_ON, prepare_pit_release, change_pit,
	"let the policy have it again"},
    {HTTP_DELETE, "/v1/points-in-time/*", "pit.delete", ROUTE_GOES_ON, prepare_pit_delete, change_pit,
	"delete a point"},
    {HTTP_POST, "/v1/source-servers/*/adopt", "source.adopt", ROUTE_CHANGES, prepare_source, post_adopt,
	"accept the next installation"},
    {HTTP_POST, "/v1/source-servers/*/revoke", "source.revoke", ROUTE_CHANGES, prepare_source, post_revoke,
	"revoke its certificates"},
    {HTTP_POST, "/v1/reload", "server.reload", ROUTE_GOES_ON, NULL, post_reload,
	"read configuration and certificate again, all or nothing"},
    {HTTP_POST, "/v1/ca/rotate", "ca.rotate", ROUTE_CHANGES, NULL, post_rotate_ca, "make the next CA, beside the old"},
    {HTTP_POST, "/v1/ca/retire", "ca.retire", ROUTE_CHANGES, prepare_retire_ca, post_retire_ca,
	"let the old CA go, when no agent needs it"},
    {HTTP_POST, "/v1/certificates/server/renew", "cert.renew", ROUTE_CHANGES, NULL, post_renew_server,
	"renew the server's certificate"},
    {HTTP_POST, "/v1/source-servers/*/renew-certificate", "cert.renew", ROUTE_CHANGES, prepare_source,
	post_renew_source, "have its agent renew its certificate"},
    {HTTP_POST, "/v1/source-servers/*/policy", "source.policy", ROUTE_GOES_ON, prepare_policy, post_policy,
	"which points it keeps"},
    {HTTP_POST, "/v1/settings", "settings.set", ROUTE_CHANGES, prepare_settings, post_settings,
	"what new sources begin with"},
    {HTTP_POST, "/v1/source-servers/*/settings", "source.set", ROUTE_CHANGES, prepare_source_settings,
	post_source_settings, "its RPO target, its tags, ..."},
    {HTTP_POST, "/v1/source-servers/*/freeze-retention", "retention.freeze", ROUTE_CHANGES, prepare_source, post_freeze,
	"stop all expiry of its points"},
    {HTTP_POST, "/v1/source-servers/*/thaw-retention", "retention.thaw", ROUTE_GOES_ON, prepare_source, post_thaw,
	"let them expire again"},
    {HTTP_POST, "/v1/source-servers/*/quota", "source.quota", ROUTE_GOES_ON, prepare_quota, post_quota,
	"what it may take of the staging area"},
    {HTTP_POST, "/v1/source-servers/*/throttle", "source.throttle", ROUTE_CHANGES, prepare_throttle, post_throttle,
	"how fast it may be read"},
    {HTTP_POST, "/v1/source-servers/*/scrub", "source.scrub", ROUTE_CHANGES, prepare_source, post_scrub,
	"read and check all that is stored of it"},
    {HTTP_DELETE, "/v1/source-servers/*/scrub", "source.scrub.cancel", ROUTE_GOES_ON, prepare_source, delete_scrub,
	"give that up"},
    {HTTP_POST, "/v1/source-servers/*/pause", "source.pause", ROUTE_GOES_ON, prepare_source, post_pause,
	"take nothing of it; its agent stays connected"},
    {HTTP_POST, "/v1/source-servers/*/resume", "source.resume", ROUTE_CHANGES, prepare_source, post_resume,
	"go on after a pause"},
    {HTTP_POST, "/v1/source-servers/*/stop", "source.stop", ROUTE_GOES_ON, prepare_source, post_stop,
	"let no agent in; its points stay"},
    {HTTP_POST, "/v1/source-servers/*/start", "source.start", ROUTE_CHANGES, prepare_source, post_start,
	"let its agent in again"},
    {HTTP_POST, "/v1/source-servers/*/verify", "source.verify", ROUTE_CHANGES, prepare_verify, post_verify,
	"compare it with its source, every block"},
    {HTTP_DELETE, "/v1/source-servers/*/volumes/*", "volume.delete", ROUTE_GOES_ON, prepare_volume_delete,
	delete_volume, "delete a volume that is no longer declared"},
    {HTTP_DELETE, "/v1/source-servers/*", "source.delete", ROUTE_GOES_ON, prepare_source, delete_source,
	"delete a source with all its points"},
};

static struct api *running; /* api_stop() knows only the server */

const struct route *
api_routes(size_t *ret_count)
{
	*ret_count = sizeof routes / sizeof routes[0];
	return routes;
}

/* ---- finding the route ---- */

static bool
path_matches(const char *path, const struct http_head *head, const char **ret_args)
{
	size_t arg = 0, i;

	for (i = 0; i < head->segment_count && *path == '/'; i++) {
		size_t len = strcspn(++path, "/");

		if (len == 1 && path[0] == '*')
			ret_args[arg++] = head->segments[i];
		else if (strlen(head->segments[i]) != len || memcmp(path, head->segments[i], len) != 0)
			return false;
		path += len;
	}
	return i == head->segment_count && *path == '\0';
}

static int
find_route(struct call *call, struct hf_error *err)
{
	const struct http_head *head = http_request_head(call->req);
	bool known = false;

	for (size_t i = 0; i < sizeof routes / sizeof routes[0]; i++) {
		if (!path_matches(routes[i].path, head, call->args))
			continue;
		known = true;
		if (routes[i].method == head->method) {
			call->route = &routes[i];
			return 0;
		}
	}
	if (known)
		return hf_error_say(err, -EOPNOTSUPP, "this path knows no %s", http_method_name(head->method));
	return hf_error_say(err, -ENOSYS, "no such path; holdfast-api(7) lists them");
}

/* ---- may this peer? ---- */

enum door { DOOR_METRICS, DOOR_MONITOR, DOOR_ADMIN }; /* where it came in */

static int
check_permission(const struct call *call, enum door door, struct hf_error *err)
{
	uid_t uid = call->peer.uid;

	if (door == DOOR_METRICS && call->route->run != get_metrics)
		return hf_error_say(err, -EPERM, "this port tells /metrics alone; ask monitor.sock");
	if (call->route->kind <= ROUTE_TELLS)
		return 0;
	if (door != DOOR_ADMIN)
		return hf_error_say(err, -EPERM, "this socket only answers questions; ask admin.sock");
	if (uid == 0 || uid == geteuid() || call->api->admin_group)
		return 0; /* with the group, the socket's mode has decided */
	return hf_error_say(err, -EPERM, "uid %u may not; only root and the daemon's own user may", uid);
}

/* ---- one request ---- */

static const char *
refusal_hint(int code)
{
	return code == -EPERM ? "use admin.sock as a member of group holdfast-admin, or as root" : NULL;
}

static void
serve(struct api *api, struct http_request *req, enum door door)
{
	struct call *call = call_create(api, req);
	struct hf_error err = {0};
	int r;

	if (call == NULL) {
		http_reply(req, 503, "application/problem+json", NULL);
		return;
	}
	r = find_route(call, &err);
	if (r == 0)
		r = check_permission(call, door, &err);
	if (r == 0 && call->route->prepare != NULL)
		r = call->route->prepare(call, &err);
	if (r == 0)
		r = call_check_body(call, &err);
	if (r < 0)
		call_reply_error(call, r, err.text, refusal_hint(r));
	else if (call->route->verb != NULL)
		call_run_audited(call);
	else if (call->route->kind != ROUTE_SHOWS || !call_reply_kept(call))
		call->route->run(call);
}

static void
on_monitor_request(void *arg, struct http_request *req)
{
	serve(arg, req, DOOR_MONITOR);
}

static void
on_admin_request(void *arg, struct http_request *req)
{
	serve(arg, req, DOOR_ADMIN);
}

static void
on_metrics_request(void *arg, struct http_request *req)
{
	serve(arg, req, DOOR_METRICS);
}

/* ---- life ---- */

/* mkdir -p. The sockets guard themselves, so the directory may be looked into. */
static int
make_directory(const char *dir, struct hf_error *err)
{
	char path[512];

	if (snprintf(path, sizeof path, "%s", dir) >= (int)sizeof path)
		return hf_error_set(err, -ENAMETOOLONG, "%s", dir);
	for (char *p = path + 1; *p != '\0'; p++) {
		if (*p != '/')
			continue;
		*p = '\0';
		if (mkdir(path, 0755) < 0 && errno != EEXIST)
			return hf_error_set(err, -errno, "%s", path);
		*p = '/';
	}
	if (mkdir(path, 0755) < 0 && errno != EEXIST)
		return hf_error_set(err, -errno, "%s", path);
	return 0;
}

/* The group of that name if a socket can be handed to it: root can to any, a user to those he is in. NULL: to none. */
static const struct group *
find_group(const char *name)
{
	const struct group *group = getgrnam(name);

	return group != NULL && (geteuid() == 0 || group_member(group->gr_gid)) ? group : NULL;
}

/* Each socket belongs to its group when that exists; else it is for our user alone. */
static int
open_socket(struct api *api, const char *dir, const char *name, const char *group_name, http_handler *handler,
    struct http_server **ret_server, struct hf_error *err)
{
	const struct group *group = find_group(group_name);
	char path[512];
	struct http_config config = {
	    .path = path,
	    .mode = group != NULL ? 0660 : 0600,
	    .group = group != NULL ? group->gr_gid : (gid_t)-1,
	    .connections_max = CONNECTIONS_MAX,
	    .request_timeout_ms = REQUEST_TIMEOUT_MS,
	    .stall_timeout_ms = STALL_TIMEOUT_MS,
	    .handler = handler,
	    .arg = api,
	};
	int r;

	if (snprintf(path, sizeof path, "%s/%s", dir, name) >= (int)sizeof path)
		return hf_error_set(err, -ENAMETOOLONG, "%s", dir);
	r = http_server_open(server_base(api->sv), &config, ret_server, err);
	if (r == 0)
		log_info("control_listening", "socket=%s mode=%04o group=%s", path, config.mode,
		    group != NULL ? group_name : "-");
	return r;
}

/* For whoever has no right to the sockets, but may know the figures: they name sources, and no secrets. */
static int
open_metrics(struct api *api, const char *address, struct hf_error *err)
{
	struct http_config config = {
	    .address = address,
	    .connections_max = CONNECTIONS_MAX,
	    .request_timeout_ms = REQUEST_TIMEOUT_MS,
	    .stall_timeout_ms = REQUEST_TIMEOUT_MS,
	    .handler = on_metrics_request,
	    .arg = api,
	};
	int r = http_server_open(server_base(api->sv), &config, &api->metrics, err);

	if (r == 0)
		log_info("control_listening", "socket=%s", http_server_name(api->metrics));
	return r;
}

static void
free_api(struct api *api)
{
	http_server_close(api->metrics);
	http_server_close(api->admin);
	http_server_close(api->monitor);
	helper_stop(api->helper);
	kept_drop(&api->kept, clock_monotonic_ns());
	free(api);
}

static int
start(struct api *api, const struct config *config, struct hf_error *err)
{
	int r = make_directory(config->runtime_dir, err);

	if (r < 0)
		return r;
	r = helper_start(server_base(api->sv), &api->helper);
	if (r < 0)
		return hf_error_set(err, r, "control sockets");
	r = open_socket(api, config->runtime_dir, "admin.sock", "holdfast-admin", on_admin_request, &api->admin, err);
	if (r == 0)
		r = open_socket(api, config->runtime_dir, "monitor.sock", "holdfast-monitor", on_monitor_request,
		    &api->monitor, err);
	if (r == 0 && strcmp(config->metrics_listen, "off") != 0)
		r = open_metrics(api, config->metrics_listen, err);
	return r;
}

int
api_start(struct server *sv, const struct config *config, struct hf_error *err)
{
	struct api *api = calloc(1, sizeof *api);
	int r;

	assert(running == NULL);
	if (api == NULL)
		return hf_error_set(err, -ENOMEM, "control sockets");
	api->sv = sv;
	api->admin_group = find_group("holdfast-admin") != NULL;
	r = start(api, config, err);
	if (r < 0) {
		free_api(api);
		return r;
	}
	running = api;
	return 0;
}

void
api_stop(struct server *sv)
{
	if (running == NULL)
		return;
	assert(running->sv == sv);
	free_api(running);
	running = NULL;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/state.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <jansson.h>

#include "agent/json_text.h"
#include "proto/common/file.h"
#include "proto/common/hex.h"
#include "proto/common/status.h"

enum { STATE_VERSION = 1 };

const char *
state_path(const char *directory, const char *name, char *buf)
{
	snprintf(buf, PATH_MAX, "%s/%s", directory, name);
	return buf;
}

/* ---- to JSON ---- */

static json_t *
pack_volumes(const struct state *st)
{
	json_t *list = json_array();

	for (size_t i = 0; i < st->volume_count; i++) {
		const struct state_volume *v = &st->volumes[i];

		json_array_append_new(list, json_pack("{s:s, s:s, s:o, s:I}", "name", v->name, "identity", v->identity,
						"path", json_text(v->path), "sizeBytes", (json_int_t)v->size_bytes));
	}
	return list;
}

static json_t *
pack_servers(const struct state *st)
{
	json_t *list = json_array();

	for (size_t i = 0; i < st->server_count; i++)
		json_array_append_new(list, json_string(st->servers[i]));
	return list;
}

static json_t *
pack_earlier(const struct state *st)
{
	json_t *list = json_array();
	char hex[17];

	for (size_t i = 0; i < st->earlier.count; i++) {
		snprintf(hex, sizeof hex, "%016llx", (unsigned long long)st->earlier.ids[i]);
		json_array_append_new(list, json_string(hex));
	}
	return list;
}

static json_t *
pack_known(const struct state *st)
{
	json_t *list = json_array();

	for (size_t i = 0; i < st->known_count; i++)
		json_array_append_new(list, json_string(st->known[i]));
	return list;
}

/* The text of agent.json; malloced. NULL if a text is not UTF-8 or there is no memory. */
static char *
state_text(const struct state *st)
{
	char nonce[2 * NONCE_BYTES + 1], stream[17];
	char *text = NULL;
	json_t *root;

	hex_format(st->nonce, NONCE_BYTES, nonce);
	snprintf(stream, sizeof stream, "%016llx", (unsigned long long)st->last_stream_id);
	root = json_pack("{s:i, s:s, s:o, s:s, s:I, s:s, s:I, s:o, s:o}", "version", STATE_VERSION, "sourceServerID",
	    st->source_id.text, "servers", pack_servers(st), "nonce", nonce, "incarnation", (json_int_t)st->incarnation,
	    "lastStream", stream, "lastAckedSequence", (json_int_t)st->last_acked_sequence, "earlierStreams",
	    pack_earlier(st), "volumes", pack_volumes(st));
	if (root != NULL && st->knows_disks)
		json_object_set_new(root, "knownDisks", pack_known(st));
	if (root != NULL)
		text = json_dumps(root, JSON_INDENT(2));
	json_decref(root);
	return text;
}

int
state_save(struct state *st, struct hf_error *err)
{
	char path[PATH_MAX];
	char *text = state_text(st);
	int r;

	if (text == NULL)
		return hf_error_set(err, -ENOMEM, "write agent.json");
	if (st->written != NULL && strcmp(st->written, text) == 0) {
		free(text);
		return 0;
	}
	r = file_replace(state_path(st->directory, "agent.json", path), 0600, text, strlen(text), err);
	if (r < 0) {
		free(text);
		return r;
	}
	free(st->written);
	st->written = text;
	st->enrolled = true;
	return 0;
}

/* ---- from JSON ---- */

static bool
copy_text(char *to, size_t size, const char *from)
{
	return from != NULL && (size_t)snprintf(to, size, "%s", from) < size;
}

/* Not there in what earlier versions wrote. */
static bool
parse_earlier(const json_t *list, struct state *st)
{
	size_t n = json_array_size(list);

	if (n > EARLIER_STREAMS_MAX)
		return false;
	for (size_t i = 0; i < n; i++) {
		const char *hex = json_string_value(json_array_get(list, i));

		if (hex == NULL)
			return false;
		st->earlier.ids[i] = strtoull(hex, NULL, 16);
	}
	st->earlier.count = n;
	return true;
}

/* Not there in what earlier versions wrote, either. */
static bool
parse_known(const json_t *list, struct state *st)
{
	size_t n = json_array_size(list);

	if ((list != NULL && !json_is_array(list)) || n > STATE_KNOWN_MAX)
		return false;
	for (size_t i = 0; i < n; i++)
		if (!copy_text(st->known[i], NAME_BYTES, json_string_value(json_array_get(list, i))))
			return false;
	st->known_count = n;
	st->knows_disks = list != NULL;
	return true;
}

static bool
parse_volumes(json_t *list, struct state *st)
{
	json_t *item;
	size_t i;

	if (!json_is_array(list) || json_array_size(list) > VOLUMES_MAX)
		return false;
	json_array_foreach (list, i, item) {
		struct state_volume *v = &st->volumes[i];
		const char *name, *identity, *path;
		json_int_t size;

		if (json_unpack(item, "{s:s, s:s, s:s, s:I}", "name", &name, "identity", &identity, "path", &path,
			"sizeBytes", &size) < 0 ||
		    !copy_text(v->name, sizeof v->name, name) ||
		    !copy_text(v->identity, sizeof v->identity, identity) ||
		    !copy_text(v->path, sizeof v->path, path) || size < 0)
			return false;
		v->size_bytes = (uint64_t)size;
		st->volume_count++;
	}
	return true;
}

static bool
parse_servers(json_t *list, struct state *st)
{
	json_t *item;
	size_t i;

	if (!json_is_array(list) || json_array_size(list) < 1 || json_array_size(list) > STATE_SERVERS_MAX)
		return false;
	json_array_foreach (list, i, item)
		if (!copy_text(st->servers[st->server_count++], ADDRESS_TEXT_BYTES, json_string_value(item)))
			return false;
	return true;
}

static int
parse_state(json_t *root, struct state *st)
{
	const char *source_id, *nonce, *stream;
	json_int_t incarnation, acked;
	json_t *servers, *volumes;
	int version;

	if (json_unpack(root, "{s:i}", "version", &version) < 0)
		return -EBADMSG;
	if (version != STATE_VERSION)
		return -HF_EFORMAT;
	if (json_unpack(root, "{s:s, s:o, s:s, s:I, s:s, s:I, s:o}", "sourceServerID", &source_id, "servers", &servers,
		"nonce", &nonce, "incarnation", &incarnation, "lastStream", &stream, "lastAckedSequence", &acked,
		"volumes", &volumes) < 0)
		return -EBADMSG;
	if (!id_parse("s", source_id, &st->source_id) || !hex_parse(nonce, st->nonce, NONCE_BYTES) ||
	    !parse_servers(servers, st) || !parse_volumes(volumes, st) ||
	    !parse_earlier(json_object_get(root, "earlierStreams"), st) ||
	    !parse_known(json_object_get(root, "knownDisks"), st))
		return -EBADMSG;
	st->incarnation = (uint64_t)incarnation;
	st->last_acked_sequence = (uint64_t)acked;
	st->last_stream_id = strtoull(stream, NULL, 16);
	return 0;
}

static int
load(struct state *st, struct hf_error *err)
{
	static char text[STATE_BYTES_MAX];
	char path[PATH_MAX];
	ssize_t n = file_read(state_path(st->directory, "agent.json", path), text, sizeof text, err);
	json_t *root;
	int r;

	if (n == -ENOENT)
		return 0;
	if (n < 0)
		return (int)n;
	root = json_loads(text, 0, NULL);
	r = root == NULL ? -EBADMSG : parse_state(root, st);
	json_decref(root);
	if (r == -HF_EFORMAT)
		return hf_error_say(err, r, "%s was written by a newer holdfast-agent; upgrade this one", path);
	if (r < 0)
		return hf_error_say(err, r,
		    "%s is damaged; enrol again with --force and a token made by: holdfastctl "
		    "token create --source ID",
		    path);
	st->written = strdup(text);
	st->enrolled = true;
	return st->written == NULL ? hf_error_set(err, -ENOMEM, "%s", path) : 0;
}

/* Back to not enrolled; half of a damaged file may have been read. */
static int
forget(struct state *st)
{
	const struct state kept = *st;

	memset(st, 0, sizeof *st);
	memcpy(st->directory, kept.directory, sizeof st->directory);
	st->lock_fd = kept.lock_fd;
	return 0;
}

/* ---- life ---- */

/* errno, and what helps. */
static int
trouble_with(const char *path, struct hf_error *err)
{
	int r = -errno;

	if (r == -EACCES && geteuid() != 0)
		return hf_error_say(err, r, "%s: permission denied (become root)", path);
	return hf_error_set(err, r, "%s", path);
}

static int
make_directory(const char *path, bool create, struct hf_error *err)
{
	struct stat st;

	if (create && mkdir(path, 0700) < 0 && errno != EEXIST)
		return trouble_with(path, err);
	if (stat(path, &st) < 0)
		return trouble_with(path, err);
	if (!S_ISDIR(st.st_mode))
		return hf_error_set(err, -ENOTDIR, "%s", path);
	if ((st.st_mode & 077) != 0 && create && chmod(path, 0700) < 0) /* it will hold a key */
		return hf_error_set(err, -errno, "restrict %s to its owner", path);
	return 0;
}

static int
lock(struct state *st, struct hf_error *err)
{
	char path[PATH_MAX];

	st->lock_fd = open(state_path(st->directory, "lock", path), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (st->lock_fd < 0)
		return trouble_with(path, err);
	if (flock(st->lock_fd, LOCK_EX | LOCK_NB) < 0 && errno == EWOULDBLOCK)
		return hf_error_say(err, -EBUSY,
		    "another holdfast-agent is running on %s; only one may (see: holdfast-agent "
		    "status)",
		    st->directory);
	return 0;
}

static int
refuse_launched_copy(const struct state *st, struct hf_error *err)
{
	char path[PATH_MAX];

	if (access(state_path(st->directory, "launched-copy", path), F_OK) < 0)
		return 0;
	return hf_error_say(err, -EPERM,
	    "this machine was launched from a point in time (%s exists), and its original may be "
	    "running: it must not "
	    "go on with the original's stream; to protect it as a machine of its own, remove %s "
	    "and enrol it anew",
	    path, st->directory);
}

int
state_open(const char *directory, enum state_open_mode mode, struct state **ret_state, struct hf_error *err)
{
	struct state *st = calloc(1, sizeof *st);
	int r;

	if (st == NULL)
		return hf_error_set(err, -ENOMEM, "state");
	st->lock_fd = -1;
	r = copy_text(st->directory, sizeof st->directory, directory)
		? make_directory(directory, mode != STATE_EXISTING, err)
		: hf_error_set(err, -ENAMETOOLONG, "--state");
	if (r == 0)
		r = lock(st, err);
	if (r == 0)
		r = refuse_launched_copy(st, err);
	if (r == 0)
		r = load(st, err);
	if (r == -EBADMSG && mode == STATE_REPLACE)
		r = forget(st);
	if (r < 0) {
		state_close(st);
		return r;
	}
	*ret_state = st;
	return 0;
}

void
state_close(struct state *st)
{
	if (st == NULL)
		return;
	if (st->lock_fd >= 0)
		(void)close(st->lock_fd); /* the lock goes with it */
	free(st->written);
	free(st);
}

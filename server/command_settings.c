/* SPDX-License-Identifier: Apache-2.0 */
/* One after the other on the catalog thread, so that nobody's change is lost. */
#include "server/command_impl.h"

#include <errno.h>
#include <stdlib.h>

#include "proto/common/status.h"
#include "server/server.h"
#include "server/source.h"
#include "server/source_impl.h"

/* Merge the patch into `text`, the set there is, and check what comes of it. Gives. */
static json_t *
patched(struct command *c, const char *text, enum settings_scope scope)
{
	json_t *object = settings_load(text), *patch = settings_select(c->patch, scope), *was;
	struct settings settings;

	settings_default(&settings);
	if (object == NULL)
		object = json_object(); /* what cannot be read does not hold either */
	was = json_deep_copy(object);
	settings_merge(object, patch);
	c->changed |= !json_equal(was, object);
	json_object_update(c->was, was);
	json_decref(was);
	json_decref(patch);
	if (settings_read(object, scope, &settings, &c->err) == 0)
		return object;
	json_decref(object);
	return NULL;
}

/* Gives the text of the set there is, changed. */
static int
patch_text(struct command *c, const char *text, enum settings_scope scope, char **ret_text)
{
	json_t *object = patched(c, text, scope);

	if (object == NULL)
		return -EINVAL;
	*ret_text = json_dumps(object, JSON_COMPACT | JSON_SORT_KEYS);
	json_decref(object);
	return *ret_text != NULL ? 0 : hf_error_set(&c->err, -ENOMEM, "settings");
}

/* patch(c, text): text is SETTINGS_TEXT_BYTES to work in. */
static void
run_patch(struct command *c, int (*patch)(struct command *c, char *text))
{
	char *text = malloc(SETTINGS_TEXT_BYTES);

	c->was = json_object();
	command_set_result(c, text != NULL ? patch(c, text) : hf_error_set(&c->err, -ENOMEM, "settings"));
	free(text);
}

static int
patch_source(struct command *c, char *text)
{
	struct registry *registry = c->server->registry;
	char *changed = NULL;
	int r = registry_get_source_settings(registry, &c->source, text, SETTINGS_TEXT_BYTES);

	if (r < 0)
		return hf_error_set(&c->err, r, "source %s", c->source.text);
	r = patch_text(c, text, SETTINGS_OF_SOURCE, &changed);
	if (r == 0)
		r = settings_read_source(changed, &c->settings, &c->tags, &c->err);
	if (r == 0)
		r = registry_set_source_settings(registry, &c->source, changed, &c->err);
	free(changed);
	return r;
}

static void
run_set_settings(struct job *job, struct disk *d, struct run_cache *cache)
{
	run_patch(command_from_job(job), patch_source);
}

static void
take_settings(struct command *c, struct source *src)
{
	char said[SENTENCE_BYTES];

	settings_describe(c->patch, c->was, said, sizeof said);
	source_set_settings(src, &c->settings, c->tags);
	c->tags = NULL;
	source_publish(src);
	if (c->changed)
		server_event(c->server, &c->source, "source_set", "%s", said);
	command_finish_ok(c, said);
}

void
command_set_settings(struct server *sv, const struct id *source, json_t *patch, command_done *done, void *arg)
{
	struct command *c = command_create(sv, source, done, arg);

	c->patch = json_incref(patch);
	c->at_source = take_settings;
	command_send_to_catalog(c, run_set_settings, command_tell_owner);
}

/* The set kept under the key, changed. Gives. */
static int
patch_kept(struct command *c, const char *key, enum settings_scope scope, char *text, char **ret_text)
{
	int r = registry_get_setting(c->server->registry, key, text, SETTINGS_TEXT_BYTES);

	if (r < 0 && r != -ENOENT)
		return hf_error_set(&c->err, r, "settings");
	return patch_text(c, r == 0 ? text : "{}", scope, ret_text);
}

/* All that is set, for the answer: before anything is, for there may be no memory. */
static int
join_kept(struct command *c, const char *of_source, const char *of_store)
{
	json_t *store = json_loads(of_store, 0, NULL);
	int r;

	c->kept = json_loads(of_source, 0, NULL);
	r = json_object_update(c->kept, store);
	json_decref(store);
	c->answer.kept = c->kept;
	return r < 0 ? hf_error_set(&c->err, -ENOMEM, "settings") : 0;
}

static int
patch_template(struct command *c, char *text)
{
	char *of_source = NULL, *of_store = NULL;
	int r = patch_kept(c, REGISTRY_NEW_SOURCE, SETTINGS_OF_SOURCE, text, &of_source);

	if (r == 0)
		r = patch_kept(c, REGISTRY_NEW_STORE, SETTINGS_OF_STORE, text, &of_store);
	if (r == 0)
		r = join_kept(c, of_source, of_store);
	if (r == 0)
		r = registry_set_template(c->server->registry, of_source, of_store, &c->err);
	free(of_source);
	free(of_store);
	return r;
}

static void
run_set_template(struct job *job, struct disk *d, struct run_cache *cache)
{
	struct command *c = command_from_job(job);

	run_patch(c, patch_template);
	if (c->answer.status < 0)
		return;
	settings_describe(c->patch, c->was, c->answer.text, sizeof c->answer.text);
	if (c->changed)
		server_event(c->server, NULL, "settings_set", "%s", c->answer.text);
}

void
command_set_template(struct server *sv, json_t *patch, command_done *done, void *arg)
{
	struct command *c = command_create(sv, NULL, done, arg);

	c->patch = json_incref(patch);
	command_send_to_catalog(c, run_set_template, command_on_ran);
}

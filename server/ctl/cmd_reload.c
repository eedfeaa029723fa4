/* SPDX-License-Identifier: Apache-2.0 */
/* reload: the configuration and the server's certificate, read again. */
#include "server/ctl/client.h"
#include "server/ctl/pick.h"

static void
print_keys(const char *what, const json_t *keys)
{
	const json_t *key;
	size_t i;

	if (json_array_size(keys) == 0)
		return;
	printf("%s:", what);
	json_array_foreach (keys, i, key) {
		printf(" %s", json_string_value(key));
	}
	printf("\n");
}

static void
print_answer(const json_t *answer)
{
	const json_t *changed = pick(answer, "changed"), *restart = pick(answer, "restartRequired");
	bool certificate = json_is_true(pick(answer, "certificateChanged"));

	print_keys("changed", changed);
	if (certificate)
		print_sentence(4, "changed: the server's certificate; new connections are shown it, none was cut");
	if (json_array_size(changed) == 0 && !certificate)
		print_sentence(4, "nothing to change");
	print_keys("not before a restart (systemctl restart holdfastd)", restart);
}

int
run_reload(struct ctl *ctl)
{
	json_t *answer;
	int code = client_change(ctl->client, "POST", NULL, &answer, "/v1/reload");

	if (code != EXIT_DONE)
		return code;
	if (ctl_given(ctl, OPT_JSON))
		return print_json(answer);
	print_answer(answer);
	json_decref(answer);
	return EXIT_DONE;
}

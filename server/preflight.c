/* SPDX-License-Identifier: Apache-2.0 */
#include "server/preflight.h"

#include "proto/common/units.h"
#include "server/data_dir.h"
#include "server/pki.h"

int
preflight(const struct config *config, FILE *problems)
{
	char pki[CONFIG_TEXT_BYTES + 8];
	struct hf_error err;
	int r = data_dir_check(config->data_dir, !config->data_dir_set, config_journal_dir(config), &err);

	snprintf(pki, sizeof pki, "%s/pki", config->data_dir);
	if (r == 0)
		r = pki_check(pki, clock_real_ns(), &err);
	if (r < 0)
		fprintf(problems, "%s\n", err.text);
	return r;
}

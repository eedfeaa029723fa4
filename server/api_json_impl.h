/* SPDX-License-Identifier: Apache-2.0 */
/* api_json_impl.h: for the api_json*.c files alone: values they all write, and the parts of a source. */
#ifndef HF_SERVER_API_JSON_IMPL_H
#define HF_SERVER_API_JSON_IMPL_H

#include "server/api_json.h"

json_t *api_json_text_or_null(const char *text); /* "": null */
json_t *api_json_bytes(uint64_t bytes);          /* or a count: as much as JSON's integers hold */
json_t *api_json_lsn(uint64_t lsn);
json_t *api_json_seconds(double seconds);           /* with three decimals; less than 0: null */
json_t *api_json_after(int64_t now_ns, int64_t ns); /* so long from now; null: not known, or nothing is left */

/* api_json_drs.c: what DRS has of a source. */
json_t *api_json_drs_source(const struct source_status *s, int64_t now_ns);

#endif

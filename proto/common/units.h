/* SPDX-License-Identifier: Apache-2.0 */
/* units.h: sizes, durations and times as people write them, and as the API does. */
#ifndef HF_COMMON_UNITS_H
#define HF_COMMON_UNITS_H

#include <stddef.h>
#include <stdint.h>

enum { UNITS_TEXT_BYTES = 48 }; /* enough for every text made here */

#define NS_PER_SECOND 1000000000LL

/* Nanoseconds since 1970 of CLOCK_REALTIME; of CLOCK_MONOTONIC; that this thread had a processor. */
int64_t clock_real_ns(void);
int64_t clock_monotonic_ns(void);
int64_t clock_thread_ns(void);

/* "64MiB", "64M" (both binary), "1GB" is refused. Plain numbers are bytes. 0 or -EINVAL. */
int size_parse(const char *text, uint64_t *ret_bytes);

/* "30s", "10m", "24h", "7d", "500ms". Plain numbers are seconds. 0 or -EINVAL. */
int duration_parse(const char *text, int64_t *ret_ns);

/* RFC 3339 ("2026-11-22T07:44:02.113Z", offsets allowed, fraction optional), or "-15m": that long before now_ns. 0 or
 * -EINVAL. */
int time_parse(const char *text, int64_t now_ns, int64_t *ret_ns);

/* Each writes into buf (UNITS_TEXT_BYTES bytes) and returns buf. */
const char *size_format(uint64_t bytes, char *buf);     /* "1.5 GiB" */
const char *duration_format(int64_t ns, char *buf);     /* "3.2s", "4h12m" */
const char *duration_format_iso(int64_t ns, char *buf); /* "PT12S", ISO 8601, whole seconds, rounded up */
const char *time_format(int64_t ns, char *buf);         /* RFC 3339 UTC with milliseconds */

#endif

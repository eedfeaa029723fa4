/* SPDX-License-Identifier: Apache-2.0 */
/* metrics_text.h: the two forms in which metrics are told: Prometheus' text (0.0.4), and OpenMetrics (1.0), in which a
 * family is named without the "_total" and "_info" of its samples, and the end is marked. */
#ifndef HF_SERVER_METRICS_TEXT_H
#define HF_SERVER_METRICS_TEXT_H

#include <stdbool.h>
#include <stddef.h>

#include "proto/common/histogram.h"

struct evbuffer;

struct metric_family {
	const char *name; /* of its samples; of a histogram without _bucket, _sum, _count */
	const char *type; /* "gauge", "counter", "histogram", "info" */
	const char *help; /* no backslash, no new line */
};

/* Does a client with this Accept header take OpenMetrics? */
bool metrics_are_open(const char *accept);
const char *metrics_content_type(bool open);

/* HELP and TYPE; all samples of the family follow, before another one begins. */
void metrics_begin(struct evbuffer *out, bool open, const struct metric_family *f);

/* "name{LABELS} value"; labels as they stand between the braces, "" = none. A value that is not finite is not known: no
 * sample. */
void metrics_add(struct evbuffer *out, const char *name, const char *labels, double value);
void metrics_add_histogram(struct evbuffer *out, const char *name, const char *labels, const struct histogram *h);

/* A label's value as text_set() has it, with what would end it escaped. Cut to size, at the end of a character. Returns
 * buf. */
const char *metrics_escape(const char *text, char *buf, size_t size);

/* This process: the standard process_ families. Reads /proc/self. */
void metrics_add_process(struct evbuffer *out, bool open);

void metrics_end(struct evbuffer *out, bool open);

#endif

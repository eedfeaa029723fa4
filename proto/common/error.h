/* SPDX-License-Identifier: Apache-2.0 */
/* error.h: what went wrong, in words, on its way to a person. The caller owns it; each layer adds what it knows. */
#ifndef HF_COMMON_ERROR_H
#define HF_COMMON_ERROR_H

struct hf_error {
	int code;        /* negative errno or -hf_status; 0 = nothing set */
	char text[1024]; /* what, why, and what to do next */
};

/* Set err (NULL is allowed) to "FORMAT...: text of code" and return code, which must be negative. */
int hf_error_set(struct hf_error *err, int code, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* As hf_error_set(), but the message stands as given: the text of code is not appended. */
int hf_error_say(struct hf_error *err, int code, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* Put "FORMAT...: " before what err already says. Returns err's code (or -EIO if none was set). */
int hf_error_prefix(struct hf_error *err, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif

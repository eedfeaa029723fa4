/* SPDX-License-Identifier: Apache-2.0 */
/* json_text.h: text from outside, like a path, as a JSON string. */
#ifndef HF_AGENT_JSON_TEXT_H
#define HF_AGENT_JSON_TEXT_H

#include <jansson.h>

/* As it is if it is UTF-8, which is all that JSON holds; else as text_set() makes it. Gives. NULL if there is no
 * memory. */
json_t *json_text(const char *text);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* reload.h: the configurations that the running server has had. A new one takes the place of the old by
 * reload_start(). Main thread. */
#ifndef HF_SERVER_RELOAD_H
#define HF_SERVER_RELOAD_H

#include "server/command.h"

/* The first configuration. Copied. False: out of memory. */
bool reload_begin(struct server *sv, const struct config *config);

/* Read configuration and certificate anew, all or nothing: what was read is made ready aside, and takes the place of
 * the old at once; or the old stays, and the text says why. -EINVAL, -errno: the configuration; -HF_ECORRUPT: the
 * certificate. done may be NULL: the log tells as well. */
void reload_start(struct server *sv, command_done *done, void *arg);

/* Free all there were: nobody reads any more. */
void reload_end(struct server *sv);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* pki_impl.h: what pki.c (keys, certificates, their files) and pki_tls.c (contexts and peers) share. */
#ifndef HF_SERVER_PKI_IMPL_H
#define HF_SERVER_PKI_IMPL_H

#include <pthread.h>
#include <stdatomic.h>

#include "server/certificate.h"
#include "server/pem.h"
#include "server/pki.h"

struct pki {
	pthread_mutex_t mutex; /* of all below */
	char dir[PEM_PATH_BYTES];
	struct key_pair ca, next, server; /* next: empty unless the CA is being changed */
	_Atomic unsigned generation;
};

static inline pthread_mutex_t *
pki_lock(struct pki *p)
{
	pthread_mutex_lock(&p->mutex);
	return &p->mutex;
}

static inline void
pki_unlock(pthread_mutex_t **mutex)
{
	pthread_mutex_unlock(*mutex);
}

/* Holds the mutex until the end of the block. */
#define HOLD(p) pthread_mutex_t *held __attribute__((cleanup(pki_unlock), unused)) = pki_lock(p)

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* bench_floor: the least that receiving over TLS and writing durably can cost here. What holdfastd does beyond it
 * (frames, digests, credit, journal, index, catalog) is measured against it.
 *
 * One thread reads a TLS 1.3 connection (AES-128-GCM, 16 KiB records, 128 KiB read ahead) straight into 1 MiB buffers,
 * aligned, pre-faulted and registered with io_uring, writes each with O_DIRECT behind the last, and syncs the
 * file every 8 MiB, while the next buffers fill. The sender is another process, so that this one's CPU, the kernel
 * threads of its ring included, is the receiver's alone.
 *
 *	bench_floor [--dir DIR] [--mib N] [--fallocate]      prints one line of JSON
 *
 * The file is written over and over, at most FILE_BYTES long. Its extents are written before (recycled, as journal
 * segments are), or with --fallocate only reserved, as those of a fresh file. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <liburing.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "proto/common/units.h"

enum {
	BUFFER_BYTES = 1 << 20,
	BUFFERS = 16,
	SYNC_BYTES = 8 << 20,
	READ_AHEAD_BYTES = 128 * 1024,
	RING_DEPTH = 64,
};

static const uint64_t FILE_BYTES = (uint64_t)512 << 20;

static void
fail(const char *what, int code)
{
	fprintf(stderr, "bench_floor: %s: %s\n", what, code != 0 ? strerror(code) : "TLS");
	ERR_print_errors_fp(stderr);
	exit(1);
}

/* ---- TLS ---- */

static X509 *
make_certificate(EVP_PKEY *key)
{
	X509 *x = X509_new();

	if (x == NULL || X509_set_version(x, 2) != 1 || ASN1_INTEGER_set(X509_get_serialNumber(x), 1) != 1 ||
	    X509_gmtime_adj(X509_getm_notBefore(x), 0) == NULL ||
	    X509_gmtime_adj(X509_getm_notAfter(x), 3600) == NULL || X509_set_pubkey(x, key) != 1 ||
	    X509_sign(x, key, EVP_sha256()) == 0)
		fail("certificate", 0);
	return x;
}

static SSL_CTX *
make_server_context(void)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
	EVP_PKEY *key = EVP_EC_gen("P-256");
	X509 *x = key != NULL ? make_certificate(key) : NULL;

	if (ctx == NULL || x == NULL || SSL_CTX_set_min_proto_version(ctx, TLS1_3_VERSION) != 1 ||
	    SSL_CTX_use_certificate(ctx, x) != 1 || SSL_CTX_use_PrivateKey(ctx, key) != 1)
		fail("server context", 0);
	SSL_CTX_set_num_tickets(ctx, 0);
	SSL_CTX_set_read_ahead(ctx, 1);
	SSL_CTX_set_default_read_buffer_len(ctx, READ_AHEAD_BYTES);
	X509_free(x);
	EVP_PKEY_free(key);
	return ctx;
}

static SSL *
handshake(SSL_CTX *ctx, int fd, bool server)
{
	SSL *ssl = SSL_new(ctx);
	int on = 1;

	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
	if (ssl == NULL || SSL_set_fd(ssl, fd) != 1 || (server ? SSL_accept(ssl) : SSL_connect(ssl)) != 1)
		fail("handshake", 0);
	return ssl;
}

/* ---- the sender, a process of its own ---- */

static void
send_all(uint16_t port, uint64_t bytes)
{
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = port, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
	unsigned char *block = malloc(BUFFER_BYTES);
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	SSL *ssl;

	if (ctx == NULL || block == NULL || fd < 0)
		fail("sender", ENOMEM);
	SSL_CTX_set_ciphersuites(ctx, "TLS_AES_128_GCM_SHA256");
	memset(block, 0xa5, BUFFER_BYTES);
	if (connect(fd, (struct sockaddr *)&to, sizeof to) < 0)
		fail("connect", errno);
	ssl = handshake(ctx, fd, false);
	for (uint64_t sent = 0; sent < bytes; sent += BUFFER_BYTES) {
		size_t n;

		if (SSL_write_ex(ssl, block, BUFFER_BYTES, &n) != 1 || n != BUFFER_BYTES)
			fail("send", 0);
	}
	(void)SSL_shutdown(ssl); /* the receiver knows the length; this only ends in good order */
	SSL_free(ssl);
	SSL_CTX_free(ctx);
	free(block);
	close(fd);
}

/* ---- the receiver ---- */

struct floor {
	struct io_uring ring;
	unsigned char *memory;
	unsigned free_buffers[BUFFERS], free_count;
	int fd;
	uint64_t at, unsynced;
	unsigned writes_under_way;
	bool sync_under_way, sync_due;
	uint64_t syncs;
};

enum { SYNC_TAG = BUFFERS };

static void
start_sync(struct floor *f)
{
	struct io_uring_sqe *sqe;

	if (!f->sync_due || f->sync_under_way || f->writes_under_way > 0)
		return;
	sqe = io_uring_get_sqe(&f->ring);
	io_uring_prep_fsync(sqe, f->fd, IORING_FSYNC_DATASYNC);
	io_uring_sqe_set_data64(sqe, SYNC_TAG);
	io_uring_submit(&f->ring);
	f->sync_due = false;
	f->sync_under_way = true;
}

static void
take_answer(struct floor *f, const struct io_uring_cqe *cqe)
{
	uint64_t tag = io_uring_cqe_get_data64(cqe);

	if (cqe->res < 0 || (tag != SYNC_TAG && cqe->res != BUFFER_BYTES))
		fail(tag == SYNC_TAG ? "sync" : "write", cqe->res < 0 ? -cqe->res : EIO);
	if (tag == SYNC_TAG) {
		f->sync_under_way = false;
		f->syncs++;
		return;
	}
	f->writes_under_way--;
	f->free_buffers[f->free_count++] = (unsigned)tag;
}

static void
take_answers(struct floor *f, bool wait)
{
	struct io_uring_cqe *cqe;

	if (wait)
		io_uring_wait_cqe(&f->ring, &cqe);
	while (io_uring_peek_cqe(&f->ring, &cqe) == 0) {
		take_answer(f, cqe);
		io_uring_cqe_seen(&f->ring, cqe);
	}
	start_sync(f);
}

static void
write_buffer(struct floor *f, unsigned index)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&f->ring);

	io_uring_prep_write_fixed(
	    sqe, f->fd, f->memory + (size_t)index * BUFFER_BYTES, BUFFER_BYTES, f->at, (int)index);
	io_uring_sqe_set_data64(sqe, index);
	io_uring_submit(&f->ring);
	f->writes_under_way++;
	f->at = (f->at + BUFFER_BYTES) % FILE_BYTES;
	f->unsynced += BUFFER_BYTES;
	if (f->unsynced >= SYNC_BYTES) {
		f->unsynced = 0;
		f->sync_due = true;
	}
}

/* A sync covers what was complete before it, so a due one holds new writes back until it is submitted. */
static unsigned
get_buffer(struct floor *f)
{
	take_answers(f, false);
	while (f->free_count == 0 || f->sync_due)
		take_answers(f, true);
	return f->free_buffers[--f->free_count];
}

static void
receive(struct floor *f, SSL *ssl, uint64_t bytes)
{
	for (uint64_t done = 0; done < bytes; done += BUFFER_BYTES) {
		unsigned index = get_buffer(f);
		unsigned char *buffer = f->memory + (size_t)index * BUFFER_BYTES;

		for (size_t have = 0, n; have < BUFFER_BYTES; have += n)
			if (SSL_read_ex(ssl, buffer + have, BUFFER_BYTES - have, &n) != 1)
				fail("receive", 0);
		write_buffer(f, index);
	}
	f->sync_due = true;
	start_sync(f);
	while (f->sync_due || f->sync_under_way)
		take_answers(f, true);
}

static void
init_floor(struct floor *f)
{
	struct io_uring_params p = {.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_COOP_TASKRUN};
	struct iovec buffers[BUFFERS];
	int r = io_uring_queue_init_params(RING_DEPTH, &f->ring, &p);

	if (r == -EINVAL) /* an older kernel */
		r = io_uring_queue_init(RING_DEPTH, &f->ring, 0);
	if (r < 0)
		fail("io_uring", -r);
	f->memory = mmap(NULL, (size_t)BUFFERS * BUFFER_BYTES, PROT_READ | PROT_WRITE,
	    MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	if (f->memory == MAP_FAILED)
		fail("buffers", errno);
	for (unsigned i = 0; i < BUFFERS; i++) {
		buffers[i] = (struct iovec){f->memory + (size_t)i * BUFFER_BYTES, BUFFER_BYTES};
		f->free_buffers[f->free_count++] = i;
	}
	r = io_uring_register_buffers(&f->ring, buffers, BUFFERS);
	if (r < 0)
		fail("register buffers (memlock?)", -r);
}

static void
open_file(struct floor *f, const char *dir, bool only_allocate)
{
	char path[4000];

	snprintf(path, sizeof path, "%s/bench-floor.%d", dir, (int)getpid());
	f->fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_DIRECT | O_CLOEXEC, 0600);
	if (f->fd < 0)
		fail(path, errno);
	(void)unlink(path); /* gone with the process, however that ends */
	if (fallocate(f->fd, 0, 0, (off_t)FILE_BYTES) < 0)
		fail("fallocate", errno);
	for (uint64_t at = 0; !only_allocate && at < FILE_BYTES; at += BUFFER_BYTES)
		if (pwrite(f->fd, f->memory, BUFFER_BYTES, (off_t)at) != BUFFER_BYTES)
			fail("write ahead", errno);
	if (fsync(f->fd) < 0)
		fail("sync", errno);
}

static double
cpu_seconds(void)
{
	struct rusage u;

	getrusage(RUSAGE_SELF, &u);
	return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
	       (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

static int
listen_anywhere(uint16_t *ret_port)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof a;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || bind(fd, (struct sockaddr *)&a, len) < 0 || listen(fd, 1) < 0 ||
	    getsockname(fd, (struct sockaddr *)&a, &len) < 0)
		fail("listen", errno);
	*ret_port = a.sin_port;
	return fd;
}

static void
report(const struct floor *f, uint64_t bytes, double seconds, double cpu)
{
	double gib = (double)bytes / (1 << 30);

	printf("{\"bytes\": %llu, \"seconds\": %.3f, \"cpu_seconds\": %.3f, \"cpu_per_gib\": %.4f, \"gib_per_second\": "
	       "%.3f, "
	       "\"syncs\": %llu}\n",
	    (unsigned long long)bytes, seconds, cpu, cpu / gib, gib / seconds, (unsigned long long)f->syncs);
}

static void
run(const char *dir, uint64_t bytes, bool only_allocate)
{
	struct floor f = {0};
	SSL_CTX *ctx = make_server_context();
	uint16_t port;
	int listener = listen_anywhere(&port), fd, status;
	pid_t sender = fork();
	int64_t begun;
	double cpu;
	SSL *ssl;

	if (sender < 0)
		fail("fork", errno);
	if (sender == 0) {
		send_all(port, bytes);
		exit(0);
	}
	init_floor(&f);
	open_file(&f, dir, only_allocate);
	fd = accept(listener, NULL, NULL);
	if (fd < 0)
		fail("accept", errno);
	ssl = handshake(ctx, fd, true);
	cpu = cpu_seconds();
	begun = clock_monotonic_ns();
	receive(&f, ssl, bytes);
	report(&f, bytes, (double)(clock_monotonic_ns() - begun) / NS_PER_SECOND, cpu_seconds() - cpu);
	SSL_free(ssl);
	SSL_CTX_free(ctx);
	close(fd);
	close(listener);
	if (waitpid(sender, &status, 0) != sender || status != 0)
		fail("the sender failed", EIO);
	io_uring_queue_exit(&f.ring);
	close(f.fd);
	munmap(f.memory, (size_t)BUFFERS * BUFFER_BYTES);
}

static void
usage(void)
{
	fprintf(stderr, "usage: bench_floor [--dir DIR] [--mib N] [--fallocate]\n");
	exit(64);
}

int
main(int argc, char **argv)
{
	static const struct option options[] = {
	    {"dir", 1, NULL, 'd'}, {"mib", 1, NULL, 'm'}, {"fallocate", 0, NULL, 'f'}, {0}};
	const char *dir = ".";
	long mib = 1024;
	bool only_allocate = false;
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (c) {
		case 'd': dir = optarg; break;
		case 'm': mib = atol(optarg); break;
		case 'f': only_allocate = true; break;
		default: usage();
		}
	}
	if (optind < argc || mib < 1)
		usage();
	signal(SIGPIPE, SIG_IGN);
	run(dir, (uint64_t)mib << 20, only_allocate);
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "server/bundle.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/crypto.h>

#include "proto/common/bytes.h"
#include "proto/common/status.h"

enum { HEAD_BYTES = 10, ROOM_FIRST = 64 * 1024 };

void
bundle_fini(struct bundle *b)
{
	if (b->bytes != NULL)
		OPENSSL_cleanse(b->bytes, b->room);
	free(b->bytes);
	*b = (struct bundle){0};
}

/* Not realloc(): it would leave keys behind. */
static int
make_room(struct bundle *b, size_t more)
{
	size_t room = b->room == 0 ? ROOM_FIRST : b->room;
	struct bundle larger = {.len = b->len};

	if (more > BUNDLE_BYTES_MAX || b->len + more > BUNDLE_BYTES_MAX)
		return -HF_ETOOBIG;
	while (room < b->len + more)
		room *= 2;
	if (room == b->room)
		return 0;
	larger.bytes = malloc(room);
	larger.room = room;
	if (larger.bytes == NULL)
		return -ENOMEM;
	if (b->len > 0)
		memcpy(larger.bytes, b->bytes, b->len);
	bundle_fini(b);
	*b = larger;
	return 0;
}

/* The piece's head, and room for its bytes, which are the caller's to fill in. */
static int
begin_piece(struct bundle *b, const char *name, size_t len, unsigned char **ret_bytes)
{
	size_t name_len = strlen(name);
	int r = make_room(b, HEAD_BYTES + name_len + len);
	unsigned char *p = r == 0 ? b->bytes + b->len : NULL;

	if (r < 0)
		return r;
	put_le16(p, (uint16_t)name_len);
	put_le64(p + 2, len);
	memcpy(p + HEAD_BYTES, name, name_len);
	b->len += HEAD_BYTES + name_len + len;
	*ret_bytes = b->bytes + b->len - len;
	return 0;
}

int
bundle_add(struct bundle *b, const char *name, const void *bytes, size_t len)
{
	unsigned char *to;
	int r = begin_piece(b, name, len, &to);

	if (r == 0 && len > 0)
		memcpy(to, bytes, len);
	return r;
}

int
bundle_append(struct bundle *b, const void *bytes, size_t len)
{
	int r = make_room(b, len);

	if (r < 0)
		return r;
	memcpy(b->bytes + b->len, bytes, len);
	b->len += len;
	return 0;
}

static int
read_whole(int fd, unsigned char *to, size_t len)
{
	for (size_t done = 0; done < len;) {
		ssize_t n = read(fd, to + done, len - done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO; /* shorter than it was */
		done += (size_t)n;
	}
	return 0;
}

int
bundle_add_file(struct bundle *b, const char *name, const char *path, struct hf_error *err)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC), r;
	unsigned char *to;
	struct stat st;

	if (fd < 0)
		return hf_error_set(err, -errno, "%s", path);
	r = fstat(fd, &st) < 0 ? -errno : begin_piece(b, name, (size_t)st.st_size, &to);
	if (r == 0)
		r = read_whole(fd, to, (size_t)st.st_size);
	close(fd);
	return r < 0 ? hf_error_set(err, r, "%s", path) : 0;
}

int
bundle_next(const struct bundle *b, size_t *at, struct bundle_piece *ret_piece)
{
	size_t left = b->len - *at, name_len;
	const unsigned char *p = b->bytes + *at;
	struct bundle_piece piece = {0};
	uint64_t len;

	if (left == 0)
		return 0;
	if (left < HEAD_BYTES)
		return -HF_ECORRUPT;
	name_len = get_le16(p);
	len = get_le64(p + 2);
	if (name_len == 0 || name_len >= sizeof piece.name || left - HEAD_BYTES < name_len ||
	    left - HEAD_BYTES - name_len < len || memchr(p + HEAD_BYTES, '\0', name_len) != NULL)
		return -HF_ECORRUPT;
	memcpy(piece.name, p + HEAD_BYTES, name_len);
	piece.bytes = p + HEAD_BYTES + name_len;
	piece.len = (size_t)len;
	*at += HEAD_BYTES + name_len + piece.len;
	*ret_piece = piece;
	return 1;
}

int
bundle_find(const struct bundle *b, const char *name, struct bundle_piece *ret_piece)
{
	struct bundle_piece piece;
	size_t at = 0;
	int r;

	while ((r = bundle_next(b, &at, &piece)) == 1) {
		if (strcmp(piece.name, name) != 0)
			continue;
		*ret_piece = piece;
		return 0;
	}
	return r < 0 ? r : -ENOENT;
}

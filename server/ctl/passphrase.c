/* SPDX-License-Identifier: Apache-2.0 */
#include "server/ctl/passphrase.h"

#include <string.h>
#include <termios.h>

#include <openssl/crypto.h>

/* One line, without its end. */
static bool
read_line(FILE *f, char ret_line[PASSPHRASE_BYTES])
{
	if (fgets(ret_line, PASSPHRASE_BYTES, f) == NULL)
		return false;
	ret_line[strcspn(ret_line, "\r\n")] = '\0';
	return true;
}

static int
read_file(const char *path, char ret_passphrase[PASSPHRASE_BYTES])
{
	FILE *f = fopen(path, "re");
	bool good;

	if (f == NULL)
		return ctl_fail(EXIT_FAILED, "%s: %m", path);
	setvbuf(f, NULL, _IONBF, 0); /* no copy of it stays */
	good = read_line(f, ret_passphrase);
	fclose(f);
	return good ? EXIT_DONE
		    : ctl_fail(EXIT_FAILED, "%s: its first line is the passphrase, and there is none", path);
}

static bool
ask_terminal(FILE *tty, const char *question, char ret_line[PASSPHRASE_BYTES])
{
	struct termios shown, hidden;
	bool good;

	if (tcgetattr(fileno(tty), &shown) < 0)
		return false;
	hidden = shown;
	hidden.c_lflag &= ~(tcflag_t)ECHO;
	(void)tcsetattr(fileno(tty), TCSAFLUSH, &hidden); /* first: whoever is quick is not seen either */
	fprintf(tty, "%s: ", question);
	fflush(tty);
	good = read_line(tty, ret_line);
	(void)tcsetattr(fileno(tty), TCSAFLUSH, &shown);
	fputc('\n', tty);
	return good;
}

static int
ask_person(bool is_new, char ret_passphrase[PASSPHRASE_BYTES])
{
	FILE *tty = fopen("/dev/tty", "r+e");
	char again[PASSPHRASE_BYTES] = "";
	int code = EXIT_DONE;

	if (tty == NULL)
		return ctl_fail(EXIT_USAGE, "without a terminal this needs --passphrase-file");
	setvbuf(tty, NULL, _IONBF, 0);
	if (!ask_terminal(tty, "Passphrase", ret_passphrase) || (is_new && !ask_terminal(tty, "The same again", again)))
		code = ctl_fail(EXIT_FAILED, "no passphrase was given");
	else if (is_new && strcmp(ret_passphrase, again) != 0)
		code = ctl_fail(EXIT_FAILED, "these were two different passphrases");
	OPENSSL_cleanse(again, sizeof again);
	fclose(tty);
	return code;
}

int
passphrase_get(const struct ctl *ctl, bool is_new, char ret_passphrase[PASSPHRASE_BYTES])
{
	int code = ctl_given(ctl, OPT_PASSPHRASE_FILE) ? read_file(ctl->values[OPT_PASSPHRASE_FILE], ret_passphrase)
						       : ask_person(is_new, ret_passphrase);

	if (code == EXIT_DONE && strlen(ret_passphrase) < PASSPHRASE_MIN)
		code = ctl_fail(EXIT_FAILED, "a passphrase has %d characters or more", PASSPHRASE_MIN);
	return code;
}

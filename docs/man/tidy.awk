# SPDX-License-Identifier: Apache-2.0
# scdoc's output without what mandoc -Tlint objects to: paragraphs without text, lines that are too long, a title in lower case.

function put(text, begins) {
	while (length(text) > 78 && match(substr(text, 1, 79), /.* /) && RLENGTH > 1) {
		print begins substr(text, 1, RLENGTH - 1)
		text = substr(text, RLENGTH + 1)
		begins = text ~ /^[.']/ ? "\\&" : ""
	}
	print begins text
}

/^\.TH / { $2 = toupper($2) }
/^\.nf$/ { literal = 1 }
/^\.fi$/ { literal = 0 }

# A paragraph begins where its text does, and after a heading without being told.
/^\.P$/ { paragraph = !heading; next }
/^\.(SH|SS) / { paragraph = 0; heading = 1; print; next }
/^\./ && !/^\.(nf|TS)$/ { print; next }

{
	if (paragraph)
		print ".P"
	paragraph = heading = 0
	if (literal || /^\./)
		print
	else
		put($0, "")
}

"""A FastCGI program in C on libfcgi that does what a request asks of it: answers, sleeps, dies.

QUERY_STRING: `sleep=MS` before the answer; `die` before a word is said; `half` after half the answer; `exit` after it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from peers.programs import compile_c

if TYPE_CHECKING:
    from pathlib import Path

SOURCE = r"""
#define _GNU_SOURCE
#include <fcgi_stdio.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int main(int argc, char **argv) {
    /* FCGI_Accept() puts the request's variables into the place of the environment. */
    const char *greeting = getenv("GREETING");
    int i;
    dprintf(2, "worker");
    for (i = 1; i < argc; i++) dprintf(2, " [%s]", argv[i]);
    dprintf(2, "\n");
    while (FCGI_Accept() >= 0) {
        const char *query = getenv("QUERY_STRING");
        if (!query) query = "";
        if (!strncmp(query, "sleep=", 6)) usleep(1000 * atoi(query + 6));
        if (!strcmp(query, "die")) kill(getpid(), SIGKILL);
        printf("Status: 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 16\r\nX-Greeting: %s\r\n\r\n%8d",
               greeting ? greeting : "", (int)getpid());
        if (!strcmp(query, "half")) {
            FCGI_fflush(FCGI_stdout);
            usleep(100000); /* so that the half is on its way */
            kill(getpid(), SIGKILL);
        }
        printf("%8d", (int)getpid());
        if (!strcmp(query, "exit")) {
            FCGI_Finish();
            return 0;
        }
    }
    return 0;
}
"""


def build_worker(folder: Path) -> Path:
    """Compiles it; its body is its PID, twice, in eight columns each."""
    return compile_c(SOURCE, folder / "worker.fcgi", "fcgi")

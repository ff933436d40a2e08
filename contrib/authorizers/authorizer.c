/* An authorizer in C: lets through who comes with `?key=KEY`, where KEY is in its environment ("bin-environment").

   cc -o authorizer authorizer.c -I/usr/include/fastcgi -lfcgi

   docs/authorizers.md says what it is asked and what follows from its answers. */

#include <fcgi_stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Takes as long for a good guess as for a bad one (CWE-208). */
static int is_equal(const char *left, const char *right)
{
    size_t length = strlen(left), i;
    unsigned char difference = 0;

    if (strlen(right) != length)
        return 0;
    for (i = 0; i < length; i++)
        difference |= (unsigned char)(left[i] ^ right[i]);
    return difference == 0;
}

int main(void)
{
    const char *key = getenv("KEY"), *query;

    if (key == NULL || *key == '\0') {
        /* Nobody is connected yet to whom libfcgi's own stderr would lead. */
        dprintf(STDERR_FILENO, "authorizer: no KEY in the environment\n");
        return 1;
    }
    /* FCGI_Accept puts the request's variables in the place of the environment. */
    key = strdup(key);

    while (key != NULL && FCGI_Accept() >= 0) {
        query = getenv("QUERY_STRING");
        if (query != NULL && strncmp(query, "key=", 4) == 0 && is_equal(query + 4, key))
            printf("Status: 200 OK\r\nVariable-REMOTE_USER: friend\r\n\r\n");
        else
            printf("Status: 403 Forbidden\r\nContent-Type: text/plain\r\n\r\nThe key is missing or wrong.\n");
    }
    return 0;
}

/* An authorizer in C: lets through who comes with the cookie SID of a session.

   cc -o authorizer authorizer.c -I/usr/include/fastcgi -lfcgi

   The folder SESSIONS ("bin-environment") holds a file for each session: its name is the session's secret of 16 to 64
   letters and digits, its first line the user. docs/authorizers.md says what is asked and what follows from answers. */

#include <fcgi_stdio.h>
#include <ctype.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The value of the cookie `name`, or "" when there is none or it is no secret of ours: it becomes a file's name. */
static void find_session(const char *cookies, const char *name, char session[65])
{
    size_t length = 0, known = strlen(name);

    session[0] = '\0';
    while (cookies != NULL && *cookies != '\0') {
        cookies += strspn(cookies, "; ");
        if (strncmp(cookies, name, known) == 0 && cookies[known] == '=') {
            cookies += known + 1;
            while (length < 65 && isalnum((unsigned char)cookies[length]))
                length++;
            if (length >= 16 && length <= 64 && strchr("; ", cookies[length]) != NULL) {
                memcpy(session, cookies, length);
                session[length] = '\0';
            }
            return;
        }
        cookies = strchr(cookies, ';');
    }
}

/* The first line of the session's file, printable characters only; 0 when there is no such session. */
static int find_user(int folder, const char *session, char user[128])
{
    int file = *session != '\0' ? openat(folder, session, O_RDONLY | O_NOFOLLOW | O_CLOEXEC) : -1;
    ssize_t size = file >= 0 ? read(file, user, 127) : -1, i;

    if (file >= 0)
        close(file);
    if (size <= 0)
        return 0;
    for (i = 0; i < size && isprint((unsigned char)user[i]); i++)
        ;
    user[i] = '\0';
    return i > 0;
}

int main(void)
{
    const char *sessions = getenv("SESSIONS");
    char session[65], user[128];
    int folder = sessions != NULL ? open(sessions, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;

    if (folder < 0) {
        /* Nobody is connected yet to whom libfcgi's own stderr would lead. */
        dprintf(STDERR_FILENO, "authorizer: no folder SESSIONS in the environment\n");
        return 1;
    }
    /* FCGI_Accept puts the request's variables in the place of the environment. */
    while (FCGI_Accept() >= 0) {
        find_session(getenv("HTTP_COOKIE"), "SID", session);
        if (find_user(folder, session, user)) {
            printf("Status: 200 OK\r\n");
            printf("Variable-REMOTE_USER: %s\r\n", user);
            /* Where the gateway keeps decisions ("cache"): this one for a minute. A yes for all that lies in a folder
               would be printf("Variable-GFASTCGI_GRANT: path=/maps/12/; ttl=300\r\n"). */
            printf("Cache-Control: max-age=60\r\n\r\n");
        } else {
            printf("Status: 403 Forbidden\r\nContent-Type: text/plain\r\nCache-Control: no-store\r\n\r\n");
            printf("Please log in.\n");
        }
    }
    return 0;
}

/* Prints the addresses of names, by whatever C library it is linked with. */
#include <netdb.h>
#include <stdio.h>
#include <sys/socket.h>

int main(int count, char **words)
{
    for (int i = 1; i < count; i++) {
        struct addrinfo want = {.ai_socktype = SOCK_STREAM}, *found;
        int error = getaddrinfo(words[i], "80", &want, &found);
        if (error) {
            fprintf(stderr, "%s: %s\n", words[i], gai_strerror(error));
            return 1;
        }
        for (; found; found = found->ai_next) {
            char text[64];
            getnameinfo(found->ai_addr, found->ai_addrlen, text, sizeof text, 0, 0, NI_NUMERICHOST);
            printf("lookup %s %s\n", words[i], text);
        }
    }
}

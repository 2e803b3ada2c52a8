/*
 * Unix-domain sockets, the few calls that libuv does not offer: every socket
 * is non-blocking, closed on exec, and never raises SIGPIPE.
 *
 * Each function returns 0 or more, or a negative UV_E* code, which on Unix is
 * the negated errno.
 */
#ifndef NPI_UNIX_SOCK_H
#define NPI_UNIX_SOCK_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>
#include <sys/uio.h>

/* The longest path a socket can have on every system, without its NUL. */
#define NPI_SOCK_PATH_MAX 103

/* Who is at the other end, as the kernel says. */
typedef struct npi_peer {
  uid_t uid;
  gid_t gid;
  pid_t pid; /* 0: this system does not tell */
} npi_peer;

int npi_sock_open(void);
void npi_sock_close(int fd);
/* UV_EADDRINUSE if a file is there. */
int npi_sock_bind(int fd, const char* path);
int npi_sock_listen(int fd);
/* Never waits: UV_ECONNREFUSED nobody listens, UV_EAGAIN the queue of the
 * listener is full. */
int npi_sock_connect(int fd, const char* path);
/* The next client's socket; UV_EAGAIN if there is none. */
int npi_sock_accept(int fd);
/* How many bytes came; 0 at the end, UV_EAGAIN. */
ssize_t npi_sock_receive(int fd, void* data, size_t size);
/* How many bytes went; UV_EAGAIN, UV_EPIPE. count < 65536. */
ssize_t npi_sock_send(int fd, struct iovec* iov, size_t count);
/* Ends both directions for every holder of the socket; what was sent stays
 * readable. */
void npi_sock_shutdown(int fd);
/* A second descriptor of the same socket, closed on exec. */
int npi_sock_dup(int fd);
int npi_sock_peer(int fd, npi_peer* peer);

#endif /* NPI_UNIX_SOCK_H */

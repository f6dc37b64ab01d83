/* Lets wrk, which has no option for it, present a client certificate: preloaded, it steps in where wrk makes its TLS context.
 *
 * Build:  gcc -shared -fPIC -O2 -Wall -Wextra -o clientcert.so clientcert.c -ldl
 * Use:    CLIENT_CERT=x.crt CLIENT_KEY=x.key LD_PRELOAD=./clientcert.so wrk https://...
 * NO_RESUME=1 makes each new connection a full handshake: no tickets, no session cache, and no session kept in the SSL object, which
 * wrk uses again for each connection and which would offer its last one.
 *
 * The few OpenSSL functions are declared here rather than included, so that no development package of OpenSSL is needed.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

typedef struct ssl_ctx_st SSL_CTX;
typedef struct ssl_st SSL;

enum { FILETYPE_PEM = 1, CTRL_SET_SESS_CACHE_MODE = 44, SESS_CACHE_OFF = 0 };
static const uint64_t OP_NO_TICKET = UINT64_C(1) << 14;

static void *openssl(const char *name) {
    void *function = dlsym(RTLD_NEXT, name);
    if (!function) {
        fprintf(stderr, "clientcert: the program has no %s\n", name);
        exit(2);
    }
    return function;
}

static void present_certificate(SSL_CTX *context, const char *cert, const char *key) {
    int (*use_chain)(SSL_CTX *, const char *) = openssl("SSL_CTX_use_certificate_chain_file");
    int (*use_key)(SSL_CTX *, const char *, int) = openssl("SSL_CTX_use_PrivateKey_file");
    if (use_chain(context, cert) != 1 || use_key(context, key, FILETYPE_PEM) != 1) {
        fprintf(stderr, "clientcert: %s and %s are not a certificate and its key in PEM\n", cert, key);
        exit(2);
    }
}

static void never_resume(SSL_CTX *context) {
    long (*control)(SSL_CTX *, int, long, void *) = openssl("SSL_CTX_ctrl");
    uint64_t (*set_options)(SSL_CTX *, uint64_t) = openssl("SSL_CTX_set_options");
    control(context, CTRL_SET_SESS_CACHE_MODE, SESS_CACHE_OFF, NULL);
    set_options(context, OP_NO_TICKET);
}

SSL_CTX *SSL_CTX_new(const void *method) {
    SSL_CTX *(*make)(const void *) = openssl("SSL_CTX_new");
    SSL_CTX *context = make(method);
    const char *cert = getenv("CLIENT_CERT"), *key = getenv("CLIENT_KEY");
    if (context && cert && key)
        present_certificate(context, cert, key);
    if (context && getenv("NO_RESUME"))
        never_resume(context);
    return context;
}

int SSL_clear(SSL *connection) {
    int (*clear)(SSL *) = openssl("SSL_clear");
    int (*set_session)(SSL *, void *) = openssl("SSL_set_session");
    int done = clear(connection);
    if (done == 1 && getenv("NO_RESUME"))
        set_session(connection, NULL);
    return done;
}

// The HTTPS listeners' certificate and key: loaded from PEM files, replaced while running.
// Loop thread only.
#ifndef HITLESS_HTTP_TLS_H
#define HITLESS_HTTP_TLS_H

#include <gnutls/abstract.h>
#include <gnutls/gnutls.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// Loads both files, which belong together. 0, or a negative errno with a line in `why`; paths are
// copied.
int http_tls_open(const char *certificate, const char *key, char *why, size_t why_size);
void http_tls_close(void);

// Reads the files again; what was in use stays so if that fails.
int http_tls_reload(char *why, size_t why_size);
// Whether a file changed since it was last read. Costs two stat() calls.
bool http_tls_changed(void);
// Frees certificates replaced more than a minute ago: no handshake can still hold them.
void http_tls_sweep(uint64_t now_ms);

// gnutls_certificate_retrieve_function2: the current chain and key.
int http_tls_retrieve(gnutls_session_t session, const gnutls_datum_t *request, int requests,
                      const gnutls_pk_algorithm_t *algorithms, int count, gnutls_pcert_st **chain,
                      unsigned *length, gnutls_privkey_t *key);

#endif

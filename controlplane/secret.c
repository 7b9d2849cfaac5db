// Secrets in memory; see secret.h.
#include "secret.h"
#include <errno.h>
#include <openssl/crypto.h>
#include <sys/mman.h>
#include <sys/random.h>

#define CHUNK 64

void *secret_alloc(size_t size, bool *locked)
{
    void *pages = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (pages == MAP_FAILED)
        return NULL;
    madvise(pages, size, MADV_DONTDUMP);
    madvise(pages, size, MADV_DONTFORK);
    *locked = mlock2(pages, size, MLOCK_ONFAULT) == 0;
    return pages;
}

void secret_free(void *pages, size_t size)
{
    if (pages == NULL)
        return;
    OPENSSL_cleanse(pages, size);
    munmap(pages, size);
}

int secret_random(void *out, size_t size)
{
    uint8_t *at = out;
    while (size > 0) {
        ssize_t n = getrandom(at, size, 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return -errno;
        at += n;
        size -= (size_t)n;
    }
    return 0;
}

static int random_text(char *out, size_t length, const char *alphabet, uint8_t mask)
{
    uint8_t bytes[CHUNK];
    out[0] = 0;
    for (size_t done = 0; done < length;) {
        size_t n = length - done < CHUNK ? length - done : CHUNK;
        int rc = secret_random(bytes, n);
        if (rc != 0) {
            out[0] = 0;
            return rc;
        }
        for (size_t i = 0; i < n; i++)
            out[done + i] = alphabet[bytes[i] & mask];
        done += n;
    }
    out[length] = 0;
    OPENSSL_cleanse(bytes, sizeof(bytes));
    return 0;
}

int secret_base32(char *out, size_t length)
{
    return random_text(out, length, "abcdefghijklmnopqrstuvwxyz234567", 31);
}

int secret_ice(char *out, size_t length)
{
    return random_text(out, length,
                       "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/", 63);
}

bool secret_equal(const void *a, const void *b, size_t length)
{
    return CRYPTO_memcmp(a, b, length) == 0;
}

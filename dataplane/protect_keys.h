// For protect.c alone.
#ifndef HITLESS_PROTECT_KEYS_H
#define HITLESS_PROTECT_KEYS_H

#include "protect.h"

// Gives the backend's share back and wipes the key.
void protect_key_clear(struct protect *p, struct protect_key *key);

#endif

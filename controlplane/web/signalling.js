// WHIP (RFC 9725) and WHEP (draft-ietf-wish-whep) over fetch: one POST with the whole offer, one
// DELETE at the end. The server is ICE-lite and learns our addresses from checks, so nothing
// trickles. Also the access token of this tab, and every failure in words.

const TIMEOUT_MS = 8000;
const ASK_MS = 1500; // for a question that another node may answer as well
const TOKEN_KEY = 'hitless.token';

/** Access token of this tab, "" if none. It never outlives the tab. */
export const token = {
  get: () => sessionStorage.getItem(TOKEN_KEY) ?? '',
  set(value) {
    if (value) sessionStorage.setItem(TOKEN_KEY, value);
    else sessionStorage.removeItem(TOKEN_KEY);
  },
};

function authorization() {
  return token.get() ? { Authorization: `Bearer ${token.get()}` } : {};
}

/** A refusal: HTTP status (0: no answer at all), the server's own line, seconds to wait or 0. */
export class Refusal extends Error {
  constructor(status, detail = '', retryAfter = 0) {
    super(detail || `status ${status}`);
    Object.assign(this, { status, detail, retryAfter });
  }
}

async function refusalOf(response) {
  const retry = Number.parseInt(response.headers.get('Retry-After') ?? '', 10);
  let detail = '';
  try {
    const text = (await response.text()).trim();
    const type = response.headers.get('Content-Type') ?? '';
    if (type.includes('json')) {
      const body = JSON.parse(text);
      detail = String(body.detail ?? body.reason ?? body.error ?? body.title ?? '');
    } else if (!text.startsWith('<')) detail = text;
  } catch {
    // A refusal without readable words is still a refusal.
  }
  return new Refusal(response.status, detail.slice(0, 200), Number.isFinite(retry) ? retry : 0);
}

async function request(url, options, signal) {
  const timeout = new AbortController();
  const timer = setTimeout(() => timeout.abort(), TIMEOUT_MS);
  const abort = () => timeout.abort();
  signal?.addEventListener('abort', abort);
  try {
    return await fetch(url, { ...options, signal: timeout.signal });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Refusal(0);
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener('abort', abort);
  }
}

/**
 * Posts `offer` for `stream`; `role` is "whip" or "whep". Resolves to { answer, resource }, rejects
 * with a Refusal, or with an AbortError once `signal` is aborted.
 */
export async function negotiate(role, stream, offer, signal) {
  const options = {
    method: 'POST',
    headers: { 'Content-Type': 'application/sdp', ...authorization() },
    body: offer,
  };
  let response = await request(`/${role}/${encodeURIComponent(stream)}`, options, signal);
  // The node sent us to its partner, and browsers do not take the token along to another origin.
  if (response.redirected && response.status === 401 && token.get()) {
    response = await request(response.url, options, signal);
  }
  if (response.status !== 201) throw await refusalOf(response);
  const location = response.headers.get('Location');
  return {
    answer: await response.text(),
    resource: location ? new URL(location, response.url).href : null,
  };
}

/** Ends a session; works while the page is being left. */
export function hangUp(resource) {
  if (!resource) return;
  fetch(resource, { method: 'DELETE', keepalive: true, headers: authorization() }).catch(() => {
    // The server forgets a silent client by itself.
  });
}

/** What a node says of a session under `url`: { node, serves, other }, or null. */
export async function askWhoServes(url) {
  try {
    const response = await fetch(url, { headers: authorization(), cache: 'no-store', signal: AbortSignal.timeout(ASK_MS) });
    return response.ok ? await response.json() : null;
  } catch {
    return null;
  }
}

/** The streams that the server knows, or null where it does not say. */
export async function listStreams() {
  try {
    const response = await request('/api/streams', { headers: authorization(), cache: 'no-store' });
    if (!response.ok) return null;
    const body = await response.json();
    return Array.isArray(body.streams) ? body.streams : null;
  } catch {
    return null;
  }
}

/** True where trying again later may help without anybody changing anything. */
export function isPassing(error) {
  return error instanceof Refusal && ([0, 409, 429].includes(error.status) || error.status >= 500);
}

/** What a failure means, for the person in front of the page. */
export function explain(error, role, stream) {
  if (!(error instanceof Refusal)) return `This browser cannot take part: ${error.message}`;
  const said = error.detail ? ` The server says: ${error.detail.replace(/[.\s]*$/, '')}.` : '';
  const words = {
    0: 'The server cannot be reached.',
    400: `The server did not understand this browser’s offer.${said}`,
    401: token.get() ? 'The access token is not accepted.' : 'This server asks for an access token.',
    403: `The access token does not allow this stream.${said}`,
    404: `There is no stream “${stream}” here.`,
    406: `Browser and server have no codec in common.${said}`,
    409: role === 'whep' ? `“${stream}” is not live at the moment.`
      : `Somebody else publishes “${stream}” at the moment.${said}`,
    413: 'The offer is larger than the server takes.',
    415: 'The server does not take this kind of offer.',
    422: `Browser and server have no way to stream in common.${said}`,
    429: 'Too many attempts; the server wants a pause.',
    503: `The server is full or being serviced.${said}`,
  }[error.status];
  return words ?? `The server refused (status ${error.status}).${said}`;
}

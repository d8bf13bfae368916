// What both scripts share: `node CLIENT.mjs ASK URL PROMPT [MODEL]` prints what the client says as one line of JSON.
export const [ask, url, prompt, model = "presafe"] = process.argv.slice(2);

/** The endpoint's health, as soon as nothing is generated any more. */
export async function idle() {
  while (true) {
    const health = await (await fetch(`${url}/health`)).json();
    if (health.ongoing === 0) return health;
  }
}

/** Print what `asks[ask]()` gives, or its error. */
export async function print(asks) {
  const said = await asks[ask]().catch((error) => ({
    error: error.constructor.name, status: error.status ?? error.statusCode, message: error.message,
  }));
  console.log(JSON.stringify(said));
}

// Asks a Service of the node for a completion, as any client of the cluster would.

import { request } from "node:http";
import { text } from "node:stream/consumers";

/**
 * The text of the first choice. Every call has a connection of its own: a Service's address is anybody's until the node has its
 * rule, so that a connection made too early and kept would speak with somebody else for ever. Throws when the answer is none.
 */
export async function askCompletion(address: string, prompt: string): Promise<string> {
  const body = JSON.stringify({ prompt, max_tokens: 48, temperature: 0 });
  const answer = await new Promise<{ status: number; text: string }>((resolve, reject) => {
    const asked = request(
      `http://${address}/v1/completions`,
      {
        method: "POST",
        agent: false,
        headers: { "content-type": "application/json", "content-length": Buffer.byteLength(body) },
        signal: AbortSignal.timeout(30_000),
      },
      (response) => {
        text(response).then((read) => resolve({ status: response.statusCode ?? 0, text: read }), reject);
      },
    );
    asked.on("error", reject);
    asked.end(body);
  });
  if (answer.status !== 200) throw new Error(`${address} answered ${answer.status}: ${answer.text}`);
  const { choices } = JSON.parse(answer.text) as { choices?: { text?: string }[] };
  const words = choices?.[0]?.text;
  if (words === undefined) throw new Error(`${address} answered without a choice: ${answer.text}`);
  return words.trim();
}

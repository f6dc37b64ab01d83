// Asks every NATS service on the bus for PING, INFO and STATS, with the NATS project's own client, and prints the answers as JSON.
// node discover.mjs URL CA CERTIFICATE KEY INBOX-PREFIX [NAME]
import { Svcm } from "@nats-io/services";
import { connect } from "@nats-io/transport-node";

const [url, caFile, certFile, keyFile, inboxPrefix, name] = process.argv.slice(2);
const connection = await connect({
  servers: url,
  tls: { caFile, certFile, keyFile, handshakeFirst: true },
  inboxPrefix,
  maxReconnectAttempts: 0,
});
const client = new Svcm(connection).client({ strategy: "stall", maxWait: 5000 });

async function gathered(answers) {
  const found = [];
  for await (const each of await answers) found.push(each);
  return found;
}

const said = {
  ping: await gathered(client.ping()),
  info: await gathered(client.info(name)),
  stats: await gathered(client.stats(name)),
};
await connection.close();
console.log(JSON.stringify(said));

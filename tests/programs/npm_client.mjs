// WebTorrent's tracker client, without WebRTC: node npm_client.mjs TOOLS ANNOUNCE PORT LEFT INFO_HASH…
// Reads start, update, complete, scrape, stop or quit, one a line; prints a line for each answer. The first info-hash is
// announced, all are scraped.
import { createInterface } from 'node:readline'
import { register } from 'node:module'
import { pathToFileURL } from 'node:url'

const [tools, announce, port, left, ...infoHashes] = process.argv.slice(2)

// The package for WebRTC has native code that is not built here; trackers over HTTP and UDP need none of it.
const hooks = `
  const empty = 'data:text/javascript,export const RTCPeerConnection = 0, RTCSessionDescription = 0, RTCIceCandidate = 0; export default {}'
  export function resolve (name, context, next) {
    return name.startsWith('webrtc-polyfill') ? { url: empty, shortCircuit: true } : next(name, context)
  }`
register('data:text/javascript,' + encodeURIComponent(hooks))
const { default: Client } = await import(pathToFileURL(tools + '/npm/node_modules/bittorrent-tracker/client.js').href)

const client = new Client({
  infoHash: infoHashes[0],
  peerId: Buffer.from('-WW0208-0123456789ab'),
  announce,
  port: Number(port)
})
const say = (...words) => console.log(...words)
client.on('error', error => say('error', error.message))
client.on('warning', error => say('warning', error.message))
client.on('update', answer => say('update', answer.complete, answer.incomplete))
client.on('scrape', answer => say('scrape', answer.infoHash))
say('ready')
for await (const word of createInterface({ input: process.stdin })) {
  if (word === 'quit') break
  if (word === 'scrape') client.scrape({ infoHash: infoHashes })
  else client[word]({ uploaded: 16384, downloaded: 65536, left: word === 'complete' ? 0 : Number(left) })
}
client.destroy()
setTimeout(() => process.exit(0), 200)

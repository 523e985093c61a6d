// The npm package bittorrent-tracker over HTTP and UDP: node npm_tracker.mjs TOOLS PORT INTERVAL_MS [TRUST_PROXY]
import { pathToFileURL } from 'node:url'

const [tools, port, interval, proxied] = process.argv.slice(2)
const { default: Server } = await import(pathToFileURL(tools + '/npm/node_modules/bittorrent-tracker/server.js').href)

const server = new Server({ http: true, udp: true, ws: false, stats: false, interval: Number(interval), trustProxy: proxied === 'true' })
server.on('error', error => console.log('error', error.message))
server.on('warning', error => console.log('warning', error.message))
for (const event of ['start', 'complete', 'stop']) server.on(event, peer => console.log(event, peer))
server.listen(Number(port), { http: '127.0.0.1', udp: '127.0.0.1', udp6: '::1' }, () => console.log('listening'))

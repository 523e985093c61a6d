// Protocol Labs' importer of UnixFS: node cids.mjs TOOLS FILE…
// Prints a line of JSON for each file: its CID in each profile of IPIP-499. Files are streamed, blocks are not kept.
import { createReadStream } from 'node:fs'
import { pathToFileURL } from 'node:url'

const [tools, ...files] = process.argv.slice(2)
const load = path => import(pathToFileURL(`${tools}/npm/node_modules/${path}`).href)
const { importFile } = await load('ipfs-unixfs-importer/dist/src/index.js')
const { BlackHoleBlockstore } = await load('blockstore-core/dist/src/black-hole.js')

for (const file of files) {
  const cids = {}
  for (const profile of ['unixfs-v0-2015', 'unixfs-v1-2025']) {
    const content = createReadStream(file, { highWaterMark: 1 << 20 })
    const { cid } = await importFile({ content }, new BlackHoleBlockstore(), { profile })
    cids[profile] = cid.toString()
  }
  console.log(JSON.stringify(cids))
}

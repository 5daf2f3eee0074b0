// Reads {name: {url, text}} as JSON from standard input, and prints for each manifest what mpd-parser finds:
// {name: {representation: [[url, range, seconds, is it an initialization segment]]}}, or {name: error message}.
// NODE_PATH names the folder of the package.
"use strict";
const { parse } = require("mpd-parser");

const range = (found) => (found ? [Number(found.offset), Number(found.offset) + Number(found.length)] : null);

function segments(playlist) {
  const listed = [];
  let initial = null;
  for (const segment of playlist.segments) {
    const map = segment.map && segment.map.resolvedUri ? segment.map : null;
    const key = map && JSON.stringify([map.resolvedUri, range(map.byterange), segment.timeline]);
    if (map && key !== initial) listed.push([map.resolvedUri, range(map.byterange), null, true]);
    initial = key;
    listed.push([segment.resolvedUri, range(segment.byterange), segment.duration, false]);
  }
  return listed;
}

function found({ url, text }) {
  const manifest = parse(text, { manifestUri: url });
  const playlists = [...manifest.playlists];
  for (const group of Object.values(manifest.mediaGroups.AUDIO.audio || {})) playlists.push(...group.playlists);
  return Object.fromEntries(playlists.map((each) => [each.attributes.NAME, segments(each)]));
}

let input = "";
process.stdin.on("data", (chunk) => (input += chunk));
process.stdin.on("end", () => {
  const answers = {};
  for (const [name, manifest] of Object.entries(JSON.parse(input))) {
    try {
      answers[name] = found(manifest);
    } catch (error) {
      answers[name] = String(error.message);
    }
  }
  process.stdout.write(JSON.stringify(answers));
});

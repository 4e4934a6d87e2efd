// An album's page. Data come from scripts that call album.meta(), album.photos() and so on; nothing is fetched.
'use strict';
const ALL = 12;          // values of a group that are shown before "more"
const SINGLES = 60;      // people seen once that are shown before "more"
const DOT = 26;          // px of the map's screen that one dot stands for

const data = {meta: null, photos: [], details: [], vectors: [], faces: [], land: []};
window.album = {
  meta: found => { data.meta = found; },
  photos: rows => { for (const [id, hash, w, h, tags, place] of rows) data.photos.push({id, hash, w, h, tags, place}); },
  details: (chunk, rows) => { data.details[chunk] = rows; },
  vectors: (chunk, text) => { data.vectors[chunk] = bytes(text); },
  faces: (chunk, text, owners) => { data.faces[chunk] = {vectors: bytes(text), owners}; },
  land: rings => { data.land = rings; },
};
const bytes = text => Int8Array.from(atob(text), letter => letter.charCodeAt(0));
const $ = id => document.getElementById(id);

function make(name, settings = {}, ...children) {  // text is only ever set as text, never as HTML
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(settings)) {
    if (key.startsWith('on')) element.addEventListener(key.slice(2), value);
    else if (value !== null && value !== undefined && value !== false) element.setAttribute(key, value);
  }
  element.append(...children.filter(child => child !== null));
  return element;
}
const picture = (photo, face) => `thumbs/${photo.hash.slice(0, 2)}/${photo.hash}-${data.meta.px}${face === undefined ? '' : `-${data.meta.key}-${face}`}.jpg`;
const address = photo => data.meta.base + photo.id.split('/').map(encodeURIComponent).join('/');
const fileName = photo => photo.id.slice(photo.id.lastIndexOf('/') + 1);

// ---- what is asked for: kept in the address, so that the browser's "back" works

let state = {};
function likeable(like) {  // p12 or f12.0, of a photo that is there
  const [, kind, row] = /^(p|f)(\d+)(?:\.\d+)?$/.exec(like || '') || [];
  return kind && data.photos[row] && data.meta[kind === 'p' ? 'photoDim' : 'faceDim'] ? like : null;
}
const fresh = {view: 'photos', tags: [], text: '', area: null, like: null, page: 0, open: null};
function read() {
  const words = new URLSearchParams(location.hash.slice(1));
  if (words.has('of') && words.get('of') !== document.body.dataset.folder)  // rows mean other photos now
    ['tags', 'like', 'open', 'page'].forEach(key => words.delete(key));
  const numbers = text => text ? text.split(',').map(Number).filter(Number.isFinite) : [];
  const area = numbers(words.get('area'));
  const open = words.has('open') ? Number(words.get('open')) : null;
  state = {...fresh, view: words.get('view') || 'photos', text: (words.get('text') || '').trim(), like: likeable(words.get('like')),
    tags: numbers(words.get('tags')).filter(tag => tag in tagName), area: area.length === 4 ? area : null,
    page: Math.max(0, Number(words.get('page')) || 0), open: open !== null && data.photos[open] ? open : null};
}
function go(change, replace = false) {
  const next = {...state, ...change};
  const words = new URLSearchParams();
  for (const key of Object.keys(fresh)) {
    const value = next[key];
    if (value !== null && value !== '' && value !== fresh[key] && !(Array.isArray(value) && !value.length)) words.set(key, value);
  }
  const hash = `#${String(words) && `${words}&of=${document.body.dataset.folder}`}`;
  if (hash === (location.hash || '#')) return;
  if (replace) { history.replaceState(null, '', hash); show(); } else location.hash = hash;
}

// ---- which photos fit

let tagName = {}, tagGroup = {};
function index() {
  for (const group of data.meta.groups) group.values.forEach(([name], row) => {
    tagName[group.first + row] = name;
    tagGroup[group.first + row] = group;
  });
  for (const photo of data.photos) photo.words = [photo.id, ...photo.tags.map(tag => tagName[tag])].join('\n').toLowerCase();
}
function fits(photo, but) {  // `but`: a group whose chosen values are not asked about
  const {area, text, tags} = state;
  if (area && !(photo.place && photo.place[0] >= area[0] && photo.place[0] <= area[2] && photo.place[1] >= area[1] && photo.place[1] <= area[3])) return false;
  if (text && !text.toLowerCase().split(/\s+/).every(word => photo.words.includes(word))) return false;
  for (const group of data.meta.groups) {
    const chosen = group === but ? [] : tags.filter(tag => tagGroup[tag] === group);
    if (chosen.length && !(group.any ? chosen.some(tag => photo.tags.includes(tag)) : chosen.every(tag => photo.tags.includes(tag)))) return false;
  }
  return true;
}
function counts() {
  const found = new Map();
  const count = (photos, group) => {
    for (const photo of photos) for (const tag of photo.tags) if (!group || tagGroup[tag] === group) found.set(tag, (found.get(tag) || 0) + 1);
  };
  count(data.photos.filter(photo => fits(photo)));
  for (const group of data.meta.groups) {
    if (!group.any || !state.tags.some(tag => tagGroup[tag] === group)) continue;
    group.values.forEach((_, row) => found.delete(group.first + row));
    count(data.photos.filter(photo => fits(photo, group)), group);
  }
  return found;
}

// ---- data that are read when they are needed

const loads = new Map();
function load(name) {
  if (!loads.has(name)) loads.set(name, new Promise((done, fail) => {
    const gone = () => fail(new Error('The album has changed since this page was opened: load it again.'));
    document.head.append(make('script', {src: `${document.body.dataset.folder}/${name}.js`, onload: done, onerror: gone}));
  }));
  return loads.get(name);
}
const chunks = () => [...Array(Math.ceil(data.photos.length / data.meta.chunk)).keys()];
async function detailsOf(row) {
  const chunk = Math.floor(row / data.meta.chunk);
  await load(`details-${chunk}`);
  return data.details[chunk][row % data.meta.chunk];
}

// ---- search by example: cosines of small vectors, those of the photos (p12) or of the faces (f12.0)

const ranked = new Map();
async function rank(like) {
  if (ranked.has(like)) return ranked.get(like);
  const [, kind, row, face] = /^([pf])(\d+)(?:\.(\d+))?$/.exec(like) || [];
  if (!kind || !data.photos[row]) return new Map();
  const kept = kind === 'p' ? 'vectors' : 'faces', dim = kind === 'p' ? data.meta.photoDim : data.meta.faceDim;
  await Promise.all(chunks().map(chunk => load(`${kept}-${chunk}`)));
  const parts = chunks().map(chunk => kind === 'p' ? data.vectors[chunk] : data.faces[chunk].vectors);
  const owners = kind === 'p' ? data.photos.map((_, owner) => owner) : chunks().flatMap(chunk => data.faces[chunk].owners);
  const every = parts.flatMap(part => [...Array(part.length / dim).keys()].map(at => part.subarray(at * dim, (at + 1) * dim)));
  const asked = every[kind === 'p' ? row : owners.indexOf(Number(row)) + Number(face)];
  if (!asked) return new Map();
  const dot = (a, b) => { let sum = 0; for (let at = 0; at < a.length; at++) sum += a[at] * b[at]; return sum; };
  const best = new Map();
  every.forEach((vector, at) => {
    const cosine = dot(asked, vector) / (Math.sqrt(dot(asked, asked) * dot(vector, vector)) || 1);
    if (!(best.get(owners[at]) >= cosine)) best.set(owners[at], cosine);
  });
  ranked.set(like, best);
  return best;
}

// ---- views

let listed = [];  // rows of the photos that fit, in the order shown
async function show() {
  read();
  const turn = show.turn = (show.turn || 0) + 1;
  listed = data.photos.map((_, row) => row).filter(row => fits(data.photos[row]));
  let scores = null;
  try {
    if (state.like) scores = await rank(state.like);
  } catch (error) {
    $('bar').replaceChildren(make('b', {}, error.message));
    return;
  }
  if (turn !== show.turn) return;  // something else was asked for meanwhile
  if (scores) listed = listed.filter(row => scores.has(row)).sort((a, b) => scores.get(b) - scores.get(a) || a - b);
  showTabs();
  showGroups();
  showBar();
  const views = {photos: () => showGrid(scores), map: showMap, people: showPeople, broken: showBroken};
  $('pager').replaceChildren();
  (views[state.view] || views.photos)();
  showPhoto();
}

function showTabs() {
  const {meta} = data;
  const tabs = {photos: `Photos ${data.photos.length}`, map: meta.map && 'Map', people: meta.people.length && `People ${meta.people.length}`,
    broken: meta.broken.length && `Not read ${meta.broken.length}`};
  $('tabs').replaceChildren(...Object.entries(tabs).filter(([, text]) => text).map(([view, text]) => make('button',
    {'data-view': view, 'aria-current': state.view === view ? 'page' : null, onclick: () => go({view, page: 0})}, text)));
  if ($('text').value !== state.text && document.activeElement !== $('text')) $('text').value = state.text;
}

const opened = new Set(['Objects', 'Labels', 'Places']), whole = new Set();
function showGroups() {
  const found = counts();
  const focus = document.activeElement?.dataset?.tag;
  $('groups').replaceChildren(...data.meta.groups.filter(group => group.name !== 'People').map(group => {
    const rows = group.values.map(([name], row) => ({name, tag: group.first + row}))
      .map(value => ({...value, on: state.tags.includes(value.tag), count: found.get(value.tag) || 0}))
      .filter(value => value.on || value.count)
      .sort((a, b) => b.on - a.on || b.count - a.count);
    const shown = whole.has(group.name) ? rows : rows.slice(0, ALL);
    const rest = rows.length - shown.length;
    return make('details', {open: opened.has(group.name) ? '' : null, ontoggle: event => opened[event.target.open ? 'add' : 'delete'](group.name)},
      make('summary', {}, group.name),
      ...shown.map(value => make('button', {class: 'value', title: value.name, 'data-tag': value.tag, 'aria-pressed': String(value.on),
        onclick: () => toggle(value.tag)}, make('span', {}, value.name), make('span', {}, String(value.count)))),
      rest > 0 ? make('button', {class: 'more', onclick: () => { whole.add(group.name); showGroups(); }}, `${rest} more`) : null);
  }));
  if (focus) $('groups').querySelector(`[data-tag="${focus}"]`)?.focus();
}
const toggle = tag => go({tags: state.tags.includes(tag) ? state.tags.filter(one => one !== tag) : [...state.tags, tag], page: 0,
  view: state.view === 'broken' ? 'photos' : state.view, open: null});

function showBar() {
  const chip = (change, ...children) => make('button', {class: 'chip', title: 'Take away', onclick: () => go({...change, page: 0})}, ...children, ' ✕');
  const chips = state.tags.map(tag => chip({tags: state.tags.filter(one => one !== tag)}, tagName[tag]));
  if (state.area) chips.push(chip({area: null}, 'Part of the map'));
  if (state.text) chips.push(chip({text: ''}, `“${state.text}”`));
  if (state.like) {
    const [row, face] = state.like.slice(1).split('.').map(Number);
    if (data.photos[row]) chips.push(chip({like: null}, make('img', {src: picture(data.photos[row], face), alt: ''}), face === undefined ? 'like this photo' : 'like this face'));
  }
  $('bar').replaceChildren(make('b', {}, `${listed.length} photo${listed.length === 1 ? '' : 's'}`), ...chips);
}

function showGrid(scores) {
  const pages = Math.max(1, Math.ceil(listed.length / data.meta.page)), page = Math.min(state.page, pages - 1);
  const cells = listed.slice(page * data.meta.page, (page + 1) * data.meta.page).map(row => {
    const photo = data.photos[row];
    return make('button', {'data-row': row, title: photo.id, onclick: () => go({open: row})},
      make('img', {src: picture(photo), loading: 'lazy', decoding: 'async', alt: photo.id}),
      scores ? make('small', {}, scores.get(row).toFixed(2)) : null);
  });
  const notes = page === pages - 1 ? data.meta.notes.map(note => make('p', {class: 'note'}, note)) : [];
  $('body').replaceChildren(cells.length ? make('div', {class: 'grid'}, ...cells) : make('p', {class: 'note'}, 'No photo fits.'), ...notes);
  if (pages === 1) return;
  const near = [...new Set([0, page - 2, page - 1, page, page + 1, page + 2, pages - 1])].filter(one => one >= 0 && one < pages);
  const turn = (to, text, off) => make('button', {disabled: off ? '' : null, 'aria-current': to === page && !off ? 'page' : null,
    onclick: () => { go({page: to}); scrollTo(0, 0); }}, text);
  $('pager').replaceChildren(turn(page - 1, '‹ Back', page === 0), ...near.map(one => turn(one, String(one + 1))), turn(page + 1, 'Next ›', page === pages - 1));
}

function showPeople() {
  const group = data.meta.groups.find(one => one.name === 'People');
  if (!group) return showGrid(null);
  const tags = new Map(group.values.map(([name], row) => [name, group.first + row]));
  const found = new Set(listed.flatMap(row => data.photos[row].tags));
  const people = data.meta.people.map(([number, count, row, face]) => ({number, count, row, face, tag: tags.get(`Person ${number}`)}))
    .filter(person => found.has(person.tag));
  const cell = person => make('button', {'data-person': person.number, onclick: () => go({view: 'photos', tags: [...new Set([...state.tags, person.tag])], page: 0})},
    make('img', {src: picture(data.photos[person.row], person.face), loading: 'lazy', alt: ''}), `Person ${person.number}`,
    make('small', {}, `${person.count} face${person.count === 1 ? '' : 's'}`));
  const often = people.filter(person => person.count > 1), once = people.filter(person => person.count === 1);
  const singles = whole.has('once') ? once : once.slice(0, SINGLES);
  $('body').replaceChildren(make('div', {class: 'people'}, ...often.map(cell)),
    ...(once.length ? [make('h2', {}, `Seen once: ${once.length}`), make('div', {class: 'people'}, ...singles.map(cell))] : []),
    ...(once.length > singles.length ? [make('button', {class: 'more', onclick: () => { whole.add('once'); showPeople(); }}, `${once.length - singles.length} more`)] : []),
    ...data.meta.notes.map(note => make('p', {class: 'note'}, note)));
}

function showBroken() {
  const rows = data.meta.broken.map(([id, reason]) => make('tr', {}, make('td', {}, id), make('td', {}, reason)));
  $('body').replaceChildren(make('p', {class: 'note'}, 'These files could not be read; the album goes on without them.'), make('table', {class: 'broken'}, ...rows));
}

// ---- the map: dots that stand for photos near each other; a click shows these

const look = {scale: 1, lat: 20, lon: 0};
function showMap() {
  const canvas = make('canvas', {tabindex: 0, role: 'img', 'aria-label': 'Map of the world with the places of the photos'});
  const zoom = factor => { look.scale = Math.min(400, Math.max(1, look.scale * factor)); drawMap(canvas); };
  const buttons = make('div', {}, make('button', {class: 'act', 'aria-label': 'Closer', onclick: () => zoom(2)}, '+'),
    make('button', {class: 'act', 'aria-label': 'Farther', onclick: () => zoom(0.5)}, '−'));
  const told = data.photos.some(photo => photo.place && photo.place[2]);
  const about = `Each dot stands for the photos near it; choose one to see them.${told ? ' Green: told by the photo itself; orange: guessed.' : ''}`;
  $('body').replaceChildren(make('div', {id: 'map'}, canvas, buttons), make('p', {class: 'note'}, about));
  let from = null, moved = 0;
  const degrees = () => 360 / (canvas.clientWidth * look.scale);
  const pan = (dx, dy) => { look.lon -= dx * degrees(); look.lat += dy * degrees(); drawMap(canvas); };
  canvas.addEventListener('wheel', event => { event.preventDefault(); zoom(event.deltaY < 0 ? 1.25 : 0.8); }, {passive: false});
  canvas.addEventListener('pointerdown', event => { from = event; moved = 0; canvas.setPointerCapture(event.pointerId); });
  canvas.addEventListener('pointermove', event => {
    if (!from) return;
    moved += Math.abs(event.clientX - from.clientX) + Math.abs(event.clientY - from.clientY);
    pan(event.clientX - from.clientX, event.clientY - from.clientY);
    from = event;
  });
  canvas.addEventListener('pointerup', event => {
    from = null;
    if (moved > 6) return;
    const near = (canvas.dots || []).filter(dot => Math.hypot(dot.x - event.offsetX, dot.y - event.offsetY) < dot.r + 6)
      .sort((a, b) => Math.hypot(a.x - event.offsetX, a.y - event.offsetY) - Math.hypot(b.x - event.offsetX, b.y - event.offsetY))[0];
    if (near) go({view: 'photos', area: near.area, page: 0});
  });
  canvas.addEventListener('keydown', event => {
    const steps = {ArrowLeft: [60, 0], ArrowRight: [-60, 0], ArrowUp: [0, 60], ArrowDown: [0, -60]};
    if (steps[event.key]) { event.preventDefault(); event.stopPropagation(); pan(...steps[event.key]); }
    if (event.key === '+' || event.key === '-') zoom(event.key === '+' ? 2 : 0.5);
  });
  drawMap(canvas);
}

function drawMap(canvas) {
  const width = canvas.clientWidth, height = Math.round(Math.max(260, Math.min(width / 2, innerHeight - 220)));
  const ratio = window.devicePixelRatio || 1, pen = canvas.getContext('2d'), style = getComputedStyle(document.body);
  Object.assign(canvas, {width: width * ratio, height: height * ratio});
  canvas.style.height = `${height}px`;
  pen.scale(ratio, ratio);
  const unit = width * look.scale / 360;  // px per degree
  const room = Math.max(0, 90 - height / 2 / unit), side = Math.max(0, 180 - width / 2 / unit);
  look.lat = Math.min(room, Math.max(-room, look.lat));
  look.lon = Math.min(side, Math.max(-side, look.lon));
  const x = lon => (lon - look.lon) * unit + width / 2, y = lat => (look.lat - lat) * unit + height / 2;
  pen.fillStyle = style.getPropertyValue('--land');
  pen.beginPath();
  for (const ring of data.land) {
    for (let at = 0; at < ring.length; at += 2) pen[at ? 'lineTo' : 'moveTo'](x(ring[at] / 10), y(ring[at + 1] / 10));
    pen.closePath();
  }
  pen.fill('evenodd');
  const step = DOT / unit, cells = new Map();
  for (const row of listed) {
    const {place} = data.photos[row];
    if (!place) continue;
    const key = `${Math.floor(place[0] / step)},${Math.floor(place[1] / step)}`;
    const cell = cells.get(key) || {count: 0, told: 0, lat: 0, lon: 0, area: [90, 180, -90, -180]};
    const {area} = cell;
    cells.set(key, Object.assign(cell, {count: cell.count + 1, told: cell.told + place[2], lat: cell.lat + place[0], lon: cell.lon + place[1],
      area: [Math.min(area[0], place[0]), Math.min(area[1], place[1]), Math.max(area[2], place[0]), Math.max(area[3], place[1])]}));
  }
  canvas.dots = [...cells.values()].map(cell => ({...cell, x: x(cell.lon / cell.count), y: y(cell.lat / cell.count), r: 5 + 3 * Math.log2(1 + cell.count)}));
  pen.textAlign = 'center';
  pen.textBaseline = 'middle';
  for (const dot of canvas.dots.sort((a, b) => b.count - a.count)) {
    pen.globalAlpha = 0.85;
    pen.fillStyle = style.getPropertyValue(dot.told ? '--told' : '--guess');
    pen.beginPath();
    pen.arc(dot.x, dot.y, dot.r, 0, 7);
    pen.fill();
    pen.globalAlpha = 1;
    pen.fillStyle = style.getPropertyValue('--card');
    pen.font = '600 11px system-ui, sans-serif';
    if (dot.count > 1) pen.fillText(dot.count, dot.x, dot.y);
  }
}

// ---- one photo, large, with all that is said of it

async function showPhoto() {
  const dialog = $('photo'), row = state.open;
  if (row === null) { if (dialog.open) dialog.close(); return; }
  const photo = data.photos[row], told = await detailsOf(row).catch(error => ({error: error.message}));
  if (state.open !== row) return;
  const percent = score => `${Math.round(score * 100)} %`;
  const image = make('img', {src: address(photo), alt: photo.id, onerror: ({target}) => { if (!target.dataset.small) { target.dataset.small = 1; target.src = picture(photo); } }});
  const svg = document.createElementNS('http://www.w3.org/2000/svg', 'svg');
  svg.setAttribute('viewBox', `0 0 ${photo.w} ${photo.h}`);
  svg.setAttribute('preserveAspectRatio', 'none');
  const box = ([x1, y1, x2, y2], kind) => {
    const rect = document.createElementNS('http://www.w3.org/2000/svg', 'rect');
    Object.entries({x: x1, y: y1, width: Math.max(0, x2 - x1), height: Math.max(0, y2 - y1), class: kind}).forEach(([key, value]) => rect.setAttribute(key, value));
    svg.append(rect);
    return {onmouseenter: () => rect.classList.add('on'), onmouseleave: () => rect.classList.remove('on')};
  };
  const list = (title, lines) => lines.length ? [make('h3', {}, title), make('ul', {}, ...lines)] : [];
  const line = ([name, score], on = {}) => make('li', on, make('span', {}, name), make('span', {}, percent(score)));
  const spot = place => `${place.name ? `${place.name} · ` : ''}${place.lat.toFixed(3)}, ${place.lon.toFixed(3)}`;
  const faces = (told.faces || []).map(([sides, origin, person, attributes], face) => make('li', {class: 'face', ...box(sides, 'face')},
    make('img', {src: picture(photo, face), alt: ''}),
    make('span', {}, `${person ? `Person ${person}` : 'Face'}${origin === 'person' ? ' (upper part of a person)' : ''}`, make('br'), make('small', {}, attributes.map(([name]) => name).join(', '))),
    data.meta.faceDim ? make('button', {class: 'act', 'data-face': face, onclick: () => go({...fresh, like: `f${row}.${face}`})}, 'Find') : null));
  const at = listed.indexOf(row);
  const step = to => make('button', {class: 'act', disabled: listed[to] === undefined ? '' : null, onclick: () => go({open: listed[to]}, true)}, to < at ? '‹ Back' : 'Next ›');
  dialog.replaceChildren(
    make('figure', {}, make('div', {class: 'frame'}, image, svg)),
    make('div', {class: 'told'}, make('h2', {tabindex: -1, autofocus: ''}, fileName(photo)),
      make('div', {class: 'acts'}, step(at - 1), step(at + 1),
        data.meta.photoDim ? make('button', {class: 'act', id: 'like', onclick: () => go({...fresh, like: `p${row}`})}, 'More like this') : null,
        make('a', {class: 'act', href: address(photo), target: '_blank', rel: 'noopener'}, 'Open')),
      make('div', {class: 'note'}, `${photo.id} · ${photo.w} × ${photo.h}`),
      told.error ? make('p', {}, told.error) : null,
      ...list('Objects', (told.objects || []).map(([name, score, sides]) => line([name, score], box(sides, '')))),
      ...list('Faces', faces),
      ...Object.entries(told.labels || {}).flatMap(([head, rows]) => list(Object.keys(told.labels).length > 1 ? `Labels: ${head}` : 'Labels', rows.map(one => line(one)))),
      ...list('Place, as the photo tells it', told.truth ? [make('li', {}, make('span', {}, spot(told.truth)))] : []),
      ...list('Place, as guessed', told.place ? [make('li', {}, make('span', {}, spot(told.place)), make('span', {}, percent(told.place.score)))] : [])),
    make('button', {class: 'close', 'aria-label': 'Close', onclick: () => go({open: null})}, '✕'));
  if (!dialog.open) dialog.showModal();
  const fit = () => {
    const figure = dialog.querySelector('figure'), scale = Math.min(figure.clientWidth / photo.w, figure.clientHeight / photo.h);
    Object.assign(dialog.querySelector('.frame').style, {width: `${photo.w * scale}px`, height: `${photo.h * scale}px`});
  };
  fit();
  dialog.fit = fit;
}

function keys(event) {
  if (event.target.tagName === 'INPUT' || event.ctrlKey || event.metaKey || event.altKey) return;
  const step = {ArrowLeft: -1, ArrowRight: 1}[event.key];
  if (state.open !== null && step) {
    const to = listed[listed.indexOf(state.open) + step];
    if (to !== undefined) go({open: to}, true);
  } else if (step && state.view === 'photos' && document.activeElement?.dataset?.row) {
    const cells = [...document.querySelectorAll('.grid button')];
    cells[cells.indexOf(document.activeElement) + step]?.focus();
  } else if (event.key === '/') { event.preventDefault(); $('text').focus(); }
}

document.addEventListener('DOMContentLoaded', () => {
  if (!data.meta) { $('body').textContent = 'The data of this album are missing: make it again.'; return; }
  index();
  if (matchMedia('(max-width: 760px)').matches) $('filters').open = false;
  addEventListener('hashchange', show);
  addEventListener('keydown', keys);
  addEventListener('resize', () => { $('photo').fit?.(); const canvas = document.querySelector('#map canvas'); if (canvas) drawMap(canvas); });
  $('photo').addEventListener('cancel', event => { event.preventDefault(); go({open: null}); });
  let timer = 0;
  $('text').addEventListener('input', () => { clearTimeout(timer); timer = setTimeout(() => go({text: $('text').value.trim(), page: 0, view: state.view === 'broken' ? 'photos' : state.view}, true), 150); });
  show();
});

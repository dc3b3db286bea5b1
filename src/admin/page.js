'use strict';
// Updates the page by server-sent events, and sends the changes of an operator. The page also works without it.
const byId = (id) => document.getElementById(id);
const ages = () => {
  for (const time of document.querySelectorAll('time[data-age]')) {
    const seconds = Math.round((Date.now() - Date.parse(time.dateTime)) / 1000);
    const s = Math.abs(seconds), m = Math.floor(s / 60), h = Math.floor(m / 60), d = Math.floor(h / 24);
    const text = d ? `${d}d ${h % 24}h` : h ? `${h}h ${m % 60}m` : m ? `${m}m ${s % 60}s` : `${s}s`;
    const shown = seconds < 0 ? `in ${text}` : `${text} ago`;
    if (time.textContent !== shown) time.textContent = shown;
  }
};
// Replacing an element loses the focus inside it. It goes to the same control of the new element.
const replace = (id, html) => {
  const old = byId(id);
  if (!old) return;
  const focused = old.contains(document.activeElement) ? document.activeElement.dataset.key : undefined;
  old.outerHTML = html;
  if (focused) document.querySelector(`[data-key="${CSS.escape(focused)}"]`)?.focus();
};
let seen = Date.now();
const link = byId('link');
const listen = () => {
  const events = new EventSource('/live' + location.search);
  const alive = () => { seen = Date.now(); link.textContent = 'Live.'; };
  events.onopen = alive;
  events.addEventListener('alive', alive);
  events.addEventListener('change', (event) => {
    for (const [id, html] of JSON.parse(event.data)) replace(id, html);
    alive(); ages();
  });
  events.onerror = () => {
    link.textContent = `Not live: the connection is lost. Last seen ${new Date(seen).toLocaleTimeString()}.`;
    // The browser does not try again after an error status, such as 503 for too many viewers.
    if (events.readyState === EventSource.CLOSED) setTimeout(listen, 5000);
  };
};
const dialog = byId('confirm');
let wanted;
document.addEventListener('click', (event) => {
  const button = event.target.closest('button[data-do]');
  if (!button) return;
  wanted = { path: button.dataset.path, act: button.dataset.do };
  byId('question').textContent = `${button.textContent} ${button.dataset.name}?`;
  byId('weight-label').hidden = wanted.act !== 'weight';
  byId('answer').textContent = '';
  dialog.showModal();
});
byId('yes').addEventListener('click', async (event) => {
  event.preventDefault();
  const body = wanted.act === 'weight' ? { weight: Number(byId('weight').value) } : { state: wanted.act };
  const options = { method: 'PUT', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify(body) };
  try {
    const response = await fetch(wanted.path, options);
    if (response.ok) { dialog.close(); return; }
    byId('answer').textContent = (await response.json()).error ?? `status ${response.status}`;
  } catch (error) { byId('answer').textContent = String(error); }
});
byId('no').addEventListener('click', () => dialog.close());
document.documentElement.classList.add('live');
ages();
setInterval(ages, 1000);
listen();

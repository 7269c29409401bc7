// Follows a running job: its log and curves as they come, its state through htmx.
const state = document.querySelector("[data-follow]");

if (state) {
  const log = document.getElementById("log");
  const curves = document.getElementById("curves");
  const series = new Map();
  const seen = Number(state.dataset.seen); // the last event when the page was made
  let trained = null; // the step whose curves are shown
  const events = new EventSource(`${state.dataset.follow}/events`);

  let stage = ""; // that has begun

  log.scrollTop = log.scrollHeight;
  const refresh = () => document.body.dispatchEvent(new CustomEvent("follow"));
  // The page has the lines of what was seen.
  const tell = (event, at, line) => {
    if (Number(event.lastEventId) <= seen) return;
    log.textContent += `${at.slice(11, 19)} ${line}\n`;
    log.scrollTop = log.scrollHeight;
  };
  const begin = (event) => {
    const { at, stage: now } = JSON.parse(event.data);
    if (now !== stage) tell(event, at, now);
    stage = now;
  };

  events.addEventListener("progress", (event) => {
    begin(event);
    refresh();
  });
  events.addEventListener("log", (event) => {
    const { at, message } = JSON.parse(event.data);
    tell(event, at, message);
  });
  events.addEventListener("state", (event) => {
    begin(event);
    const { status } = JSON.parse(event.data);
    const ended = ["succeeded", "failed", "cancelled"].includes(status);
    if (ended && Number(event.lastEventId) <= seen) return; // the end before a retry
    if (ended) {
      events.close();
      location.reload();
    } else {
      refresh();
    }
  });
  events.addEventListener("metric", (event) => {
    const { step, name, value, epoch } = JSON.parse(event.data);
    if (epoch === undefined || epoch === null) return;
    if (step !== trained) series.clear();
    trained = step;
    series.set(name, [...(series.get(name) ?? []), [epoch, value]]);
    draw(curves, series);
  });
}

// Each figure has a scale of its own: a curve shows how it goes, the legend where it is.
function draw(curves, series) {
  const plot = curves.querySelector("svg");
  const shown = [...series].slice(0, 3);
  plot.replaceChildren();
  shown.forEach(([, points], index) => {
    const epochs = points.map(([epoch]) => epoch);
    const values = points.map(([, value]) => value);
    const low = Math.min(...values);
    const span = Math.max(...values) - low || 1;
    const last = Math.max(...epochs, 1);
    const line = document.createElementNS("http://www.w3.org/2000/svg", "polyline");
    const places = points.map(([epoch, value]) => {
      const x = 20 + (epoch / last) * 600;
      const y = 180 - ((value - low) / span) * 160;
      return `${x.toFixed(1)},${y.toFixed(1)}`;
    });
    line.setAttribute("points", places.join(" "));
    line.setAttribute("class", `line${index}`);
    plot.append(line);
  });
  document.getElementById("legend").textContent = shown
    .map(([name, points]) => `${name.replaceAll("_", " ")} ${points.at(-1)[1].toPrecision(4)}`)
    .join(" · ");
  curves.hidden = false;
}

// Uploads: a file may be dropped on a form, and a bar shows how far it is. The bytes go by the tus
// protocol (https://tus.io/protocols/resumable-upload), so an upload that breaks goes on where it
// broke: by itself, or when the same file is chosen again. Without this the form is sent as any other.
const TUS = { "Tus-Resumable": "1.0.0" };
const PAUSES_MS = [500, 1000, 2000, 4000, 8000, 16000, 30000];
const MOST_FAILURES = 20; // one after the other, without a byte in between

const OVER = "Your session is over: log in and choose the same file, and the upload goes on.";

class Refused extends Error {}

for (const form of document.querySelectorAll("form[data-upload]")) {
  const input = form.querySelector("input[type=file]");
  // What stands in the address besides the file, which a form without scripts cannot send there.
  // Only archives hold such models.
  const cache = form.querySelector("[data-cache]")?.closest("label");
  const offer = () => {
    if (cache) cache.hidden = !/\.(zip|tar|gz)$/i.test(input.files[0]?.name ?? "");
  };
  input.addEventListener("change", offer);
  offer();

  form.addEventListener("dragover", (event) => {
    event.preventDefault();
    form.classList.add("over");
  });
  form.addEventListener("dragleave", () => form.classList.remove("over"));
  form.addEventListener("drop", (event) => {
    event.preventDefault();
    form.classList.remove("over");
    input.files = event.dataTransfer.files;
    offer();
    if (cache && !cache.hidden) form.querySelector("[role=status]").textContent = "Press Upload.";
    else send(form, input);
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    send(form, input);
  });
}

async function send(form, input) {
  const button = form.querySelector("button");
  if (button.disabled || !form.reportValidity()) return;
  const bar = form.querySelector("progress");
  const words = form.querySelector("[role=status]");
  const shows = (sent, size) => {
    bar.hidden = false;
    bar.value = size ? sent / size : 1;
    words.textContent = `${Math.round(100 * bar.value)} %`;
  };
  const waits = (seconds) => {
    words.textContent = `The connection broke: the upload goes on in ${seconds} s.`;
  };
  button.disabled = true;
  try {
    const action = new URL(form.action, location.href);
    if (form.querySelector("[data-cache]")?.checked) action.searchParams.set("cache", "true");
    const upload = new Upload(input.files[0], action);
    const id = await upload.sent(shows, waits);
    location.href = await upload.used(id);
  } catch (error) {
    bar.hidden = true;
    words.textContent =
      error instanceof Refused
        ? error.message
        : "The connection broke: choose the same file again, and the upload goes on.";
  } finally {
    button.disabled = false;
  }
}

class Upload {
  constructor(file, action) {
    this.file = file;
    this.action = action;
    this.key = `upload ${this.action.pathname} ${file.name} ${file.size} ${file.lastModified}`;
  }

  // Sends what is missing, again and again while the connection breaks; returns the upload's id.
  async sent(shows, waits) {
    let failures = 0;
    for (;;) {
      try {
        const id = localStorage.getItem(this.key) ?? (await this.begun());
        const start = await this.arrived(id);
        if (start === null) continue;
        if (start === this.file.size) return id;
        shows(start, this.file.size);
        await this.rest(id, start, (sent) => {
          failures = 0;
          shows(sent, this.file.size);
        });
      } catch (error) {
        if (error instanceof Refused || failures === MOST_FAILURES) throw error;
        const pause = PAUSES_MS[Math.min(failures, PAUSES_MS.length - 1)];
        failures += 1;
        waits(pause / 1000);
        await paused(pause);
      }
    }
  }

  // Makes a model or dataset of the upload; returns the address of its page.
  async used(id) {
    const address = new URL(this.action);
    address.searchParams.set("upload_id", id);
    const answer = await asked("POST", address, { Accept: "text/html" });
    localStorage.removeItem(this.key);
    return answer.responseURL;
  }

  async begun() {
    const name = btoa(String.fromCharCode(...new TextEncoder().encode(this.file.name)));
    const headers = { "Upload-Length": this.file.size, "Upload-Metadata": `filename ${name}` };
    const answer = await asked("POST", this.at("/uploads"), { ...TUS, ...headers });
    const id = answer.getResponseHeader("Location").split("/").at(-1);
    localStorage.setItem(this.key, id);
    return id;
  }

  // Returns how many bytes there are, or null where the upload has expired.
  async arrived(id) {
    const answer = await asked("HEAD", this.at(`/uploads/${id}`), TUS, null, null, [404]);
    if (answer.status !== 404) return Number(answer.getResponseHeader("Upload-Offset"));
    localStorage.removeItem(this.key);
    return null;
  }

  rest(id, start, shows) {
    const headers = {
      ...TUS,
      "Content-Type": "application/offset+octet-stream",
      "Upload-Offset": start,
    };
    const progress = (event) => shows(start + event.loaded);
    return asked("PATCH", this.at(`/uploads/${id}`), headers, this.file.slice(start), progress);
  }

  at(path) {
    const address = new URL(path, this.action);
    address.searchParams.set("form_token", this.action.searchParams.get("form_token") ?? "");
    return address;
  }
}

// Sends a request; what will not be otherwise in a moment is Refused, in the words of the answer.
function asked(method, address, headers, body = null, progress = null, expected = []) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open(method, address);
    for (const [name, value] of Object.entries(headers)) request.setRequestHeader(name, value);
    if (progress) request.upload.addEventListener("progress", progress);
    request.addEventListener("load", () => {
      const passes = request.status >= 500 || request.status === 409;
      if (new URL(request.responseURL).pathname === "/login") reject(new Refused(OVER));
      else if (request.status < 400 || expected.includes(request.status)) resolve(request);
      else reject(passes ? new Error("later") : new Refused(said(request)));
    });
    request.addEventListener("error", () => reject(new Error("no answer")));
    request.send(body);
  });
}

function said(answer) {
  const usual = "The upload was refused.";
  if ((answer.getResponseHeader("Content-Type") ?? "").includes("json")) {
    return JSON.parse(answer.responseText || "{}").detail ?? usual;
  }
  const page = new DOMParser().parseFromString(answer.responseText, "text/html");
  return page.querySelector(".verdict")?.textContent ?? usual;
}

// Waits, at most until the machine is on a network again.
function paused(ms) {
  return new Promise((resolve) => {
    const timer = setTimeout(done, ms);
    window.addEventListener("online", done);
    function done() {
      clearTimeout(timer);
      window.removeEventListener("online", done);
      resolve();
    }
  });
}

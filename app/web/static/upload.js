// Uploads: a file may be dropped on a form, and a bar shows how far it is. Without this the form is
// sent as any other.
for (const form of document.querySelectorAll("form[data-upload]")) {
  const input = form.querySelector("input[type=file]");
  const bar = form.querySelector("progress");
  const words = form.querySelector("[role=status]");

  form.addEventListener("dragover", (event) => {
    event.preventDefault();
    form.classList.add("over");
  });
  form.addEventListener("dragleave", () => form.classList.remove("over"));
  form.addEventListener("drop", (event) => {
    event.preventDefault();
    form.classList.remove("over");
    input.files = event.dataTransfer.files;
    send(form, bar, words);
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    send(form, bar, words);
  });
}

function send(form, bar, words) {
  if (!form.reportValidity()) return;
  const request = new XMLHttpRequest();
  request.open("POST", form.action);
  request.setRequestHeader("Accept", "text/html");
  request.upload.addEventListener("progress", (event) => {
    bar.hidden = false;
    bar.value = event.lengthComputable ? event.loaded / event.total : 0;
    words.textContent = `${Math.round(100 * bar.value)} %`;
  });
  request.addEventListener("load", () => {
    if (request.status < 400) {
      location.href = request.responseURL;
      return;
    }
    bar.hidden = true;
    const answer = new DOMParser().parseFromString(request.responseText, "text/html");
    words.textContent = answer.querySelector(".verdict")?.textContent ?? "The upload was refused.";
  });
  request.addEventListener("error", () => {
    bar.hidden = true;
    words.textContent = "The connection was lost: try again.";
  });
  request.send(new FormData(form));
}

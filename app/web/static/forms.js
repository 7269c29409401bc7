// A form is sent once: the second click of a double click does nothing. Before what cannot be
// undone, the person is asked whether it is meant.
const SENT = "sent";
const PATIENCE_MS = 5000; // then it may be sent again, as when a connection broke

document.addEventListener("submit", (event) => {
  const form = event.target;
  if (event.defaultPrevented || form.method !== "post") return;
  if (SENT in form.dataset) {
    event.preventDefault();
    return;
  }
  const button = event.submitter;
  const final = button?.matches(".danger:not([name])"); // a named one changes the form alone
  if (final && !confirm(`${button.textContent}? This cannot be undone.`)) {
    event.preventDefault();
    return;
  }
  form.dataset[SENT] = "";
  setTimeout(() => delete form.dataset[SENT], PATIENCE_MS);
});

// Copies what stands before its button; where a browser does not let pages copy, as at an address
// without https, it is selected.
for (const button of document.querySelectorAll("[data-copies]")) {
  const shown = button.previousElementSibling;
  button.hidden = false;
  button.addEventListener("click", async () => {
    getSelection().selectAllChildren(shown);
    try {
      await navigator.clipboard.writeText(shown.textContent);
      button.textContent = "Copied";
    } catch {
      button.textContent = "Selected: press Ctrl+C";
    }
  });
}

// Whoever goes back finds the page as it was left.
addEventListener("pageshow", () => {
  for (const form of document.querySelectorAll(`form[data-${SENT}]`)) delete form.dataset[SENT];
});

// A plan that is made while one types says at each field what is wrong there.
document.addEventListener("htmx:beforeSwap", ({ detail }) => {
  const planned = new DOMParser().parseFromString(detail.serverResponse, "text/html");
  for (const place of document.querySelectorAll("[data-wrong]")) {
    const renewed = planned.querySelector(`[data-wrong="${CSS.escape(place.dataset.wrong)}"]`);
    if (renewed === null || renewed.innerHTML === place.innerHTML) continue;
    place.replaceChildren(...renewed.childNodes);
    if (place.hasChildNodes()) {
      for (let hiding = place.closest("details"); hiding; hiding = hiding.parentElement.closest("details")) hiding.open = true;
    }
  }
  for (const field of document.querySelectorAll(".field")) {
    const wrong = field.querySelector(":scope > [data-wrong] > .fault") !== null;
    for (const control of field.querySelectorAll(":scope > label > :is(input, select, textarea)")) {
      if (wrong) control.setAttribute("aria-invalid", "true");
      else control.removeAttribute("aria-invalid");
    }
  }
});

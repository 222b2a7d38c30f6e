// What a panel's widgets cannot do by themselves, in the pages of JupyterLab and Notebook 7: Shift+Enter in the prompt,
// keys that reach the panel's controls, names of sliders for screen readers, and adding a cell. It only reads the
// page; all texts of the panel are typed by the person, and the model's never come here.
const begin = (tries) => {
  const root = element.closest(".llm-panel-live");
  if (!root) {
    if (tries < 200) setTimeout(begin, 50, tries + 1);
    return;
  }
  if (root.dataset.llmPanel) return;
  root.dataset.llmPanel = "ready";
  const find = (name) => root.querySelector(".llm-panel-" + name);
  const tell = (what) => find(what).click();
  const book = root.closest(".jp-NotebookPanel");
  const cell = root.closest(".jp-Cell");

  const adder = () => book && book.querySelector('[data-command="notebook:insert-cell-below"]');
  const put = (before, tries) => {
    const made = cell.nextElementSibling;
    const editor = made && made !== before ? made.querySelector(".cm-content") : null;
    if (!editor) {
      if (tries < 100) setTimeout(put, 50, before, tries + 1);
      else tell("refused");
      return;
    }
    const data = new DataTransfer();
    data.setData("text/plain", find("cell").querySelector("textarea").value);
    editor.dispatchEvent(new ClipboardEvent("paste", { clipboardData: data, bubbles: true, cancelable: true }));
    tell("inserted");
  };
  const insert = () => {
    if (!cell || !adder() || !cell.classList.contains("jp-mod-active")) return tell("refused");
    const before = cell.nextElementSibling;
    for (const kind of ["mousedown", "mouseup", "click"])
      adder().dispatchEvent(new MouseEvent(kind, { bubbles: true, cancelable: true, button: 0 }));
    put(before, 0);
  };
  const copy = async () => {
    const box = find("cell").querySelector("textarea");
    try {
      await navigator.clipboard.writeText(box.value);
      tell("copied");
    } catch {
      box.focus();
      box.select();
      tell(document.execCommand("copy") ? "copied" : "selected");
    }
  };

  // JupyterLab's own keys are letters and arrows, and Shift+Enter runs its cell: in here they belong to the panel.
  const keys = (event) => {
    if (!root.isConnected) return window.removeEventListener("keydown", keys, true);
    if (!root.contains(event.target)) return;
    // Asked of the element itself: a selector that fits it wins over an ancestor's attribute.
    event.target.toggleAttribute("data-lm-suppress-shortcuts", event.key === "Enter" || !(event.ctrlKey || event.metaKey));
    const asks = event.key === "Enter" && (event.shiftKey || event.ctrlKey || event.metaKey);
    if (asks && find("prompt").contains(event.target)) {
      event.preventDefault();
      event.stopPropagation();
      tell("run");
    }
  };
  window.addEventListener("keydown", keys, true);
  find("insert").addEventListener("click", insert);
  find("copy").addEventListener("click", copy);
  find("note").setAttribute("role", "status");
  for (const slider of root.querySelectorAll(".widget-slider")) {
    const name = slider.querySelector(".widget-label").textContent;
    for (const part of slider.querySelectorAll(".noUi-handle, .widget-readout")) part.setAttribute("aria-label", name);
  }
  if (adder()) tell("able");
};
begin(0);

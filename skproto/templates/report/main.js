// Start: everything is drawn once the page is read.

startGallery();
startCases();
startTree();
startReasoning();

// A link such as report.html#case-17 opens that case.
function openLinked() {
  const found = /^#case-(.+)$/.exec(decodeURIComponent(location.hash));
  if (found && caseByName.has(found[1])) openCase(caseByName.get(found[1]));
}

window.addEventListener("hashchange", openLinked);
openLinked();

// What is folded is of no use on paper.
const unfolded = [];
window.addEventListener("beforeprint", () => {
  for (const details of document.querySelectorAll("details:not([open])")) {
    details.open = true;
    unfolded.push(details);
  }
});
window.addEventListener("afterprint", () => {
  for (const details of unfolded.splice(0)) details.open = false;
});

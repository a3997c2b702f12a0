// Runs before the first paint, so that a chosen theme does not flash: a script of its own, because
// the content security policy allows no inline one.
try {
  const theme = localStorage.getItem("regallery-theme");
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
} catch {
  // Storage is blocked: the page follows the system.
}

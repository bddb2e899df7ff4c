/* Runs before the first paint: the theme that the person chose, if any. */
"use strict";
try {
  const chosen = localStorage.getItem("theme");
  if (chosen === "dark" || chosen === "light") document.documentElement.dataset.theme = chosen;
} catch (refused) { /* private windows may refuse */ }

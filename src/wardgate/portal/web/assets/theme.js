"use strict";
// Before the first paint: the person's theme and sidebar, so that nothing flashes or jumps.
(() => {
  const root = document.documentElement;
  root.classList.add("js");
  try {
    const theme = localStorage.getItem("theme");
    if (theme === "light" || theme === "dark") root.dataset.theme = theme;
    if (localStorage.getItem("sidebar") === "collapsed") root.dataset.sidebar = "collapsed";
  } catch { /* storage is forbidden: the system's theme, an open sidebar */ }
})();

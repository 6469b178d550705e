"use strict";

/* The page of `musrep explain`. */

{
  const data = JSON.parse(document.getElementById("explanation-data").textContent);
  window.drawMaps(document.getElementById("maps"), data, document.getElementById("audio"));
}

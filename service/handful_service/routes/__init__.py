"""The routes of design section "HTTP", one file per thing that is asked for."""

from fastapi import APIRouter

from handful_service.routes import classify, decode, embed, model, probes

routers: tuple[APIRouter, ...] = (
    embed.router,
    classify.router,
    decode.router,
    model.router,
    probes.router,
)

import { StrictMode } from 'react';
import { createRoot } from 'react-dom/client';
import { createApp } from 'vue';
import { Orders as ReactOrders } from './Orders.jsx';
import VueOrders from './Orders.vue';

createRoot(document.getElementById('react')).render(<StrictMode><ReactOrders topic="orders/7" /></StrictMode>);
createApp(VueOrders, { topic: 'orders/7' }).mount('#vue');
